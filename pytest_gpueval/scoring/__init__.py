"""Gold and prediction in, counts and metrics out. Nothing here reads a file or knows pytest."""
