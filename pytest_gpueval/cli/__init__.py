"""The command `gpueval`."""
