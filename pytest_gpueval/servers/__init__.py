"""Servers that hold a model: started on a worker's own GPU, watched, restarted, and surely stopped."""
