"""`--gpus` -> devices."""
