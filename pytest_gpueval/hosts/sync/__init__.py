"""The code of a repository on a host: as it is here, in a directory of its own there, and never half of it."""
