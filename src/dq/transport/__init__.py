"""Sockets and framed messages; nothing of jobs."""
