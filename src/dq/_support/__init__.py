"""What knows nothing of jobs: the operating system, the terminal, numbers with units."""
