"""What knows nothing of dq: the operating system, the terminal, numbers with units."""
