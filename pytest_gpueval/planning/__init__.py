"""What a session is expected to take, and which worker runs what: pure, but for the history it reads."""
