"""Programs that are started and surely end: a supervisor around each, and what dead sessions left."""
