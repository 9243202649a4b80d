# Included by CMake right after llama.cpp's project(): see $(LLAMA)/.made in the Makefile.
# llama.cpp's `common` is what its own programs share. The Python package uses none of it, builds it all the same, and it is a good half of the work.
set(LLAMA_BUILD_COMMON OFF)
