"""Machines that run things for us."""
