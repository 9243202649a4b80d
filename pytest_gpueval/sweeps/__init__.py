"""Rows of a sweep: a program is run, watched and told apart by how it ended."""
