"""A small language model and its training, after nanoGPT (https://github.com/karpathy/nanoGPT), in JAX."""
