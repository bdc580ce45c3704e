"""Finds, checks and sends the function that a job calls."""
