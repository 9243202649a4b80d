"""A host made ready for sessions: looked at, given the code, and a Python that can run it."""
