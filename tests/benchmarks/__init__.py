"""Benchmarks of dq and its peers, side by side: ``cd tests && python -m benchmarks``."""
