"""One working machine: its supervisor and its task processes."""
