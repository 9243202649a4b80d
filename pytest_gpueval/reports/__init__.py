"""Text about finished runs. Nothing here reads or writes a file."""
