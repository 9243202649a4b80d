"""One pytest session: what runs, where, in which directory, and what became of it."""
