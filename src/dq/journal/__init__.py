"""The journal: a run's outcomes on disk."""
