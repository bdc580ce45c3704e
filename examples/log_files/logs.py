"""Counts the lines of one access log. Only its path travels: the worker reads the file."""

from collections import Counter


def count(path: str) -> dict[str, int]:
    counts: Counter[str] = Counter()
    with open(path) as file:
        for line in file:
            counts["lines"] += 1
            counts[line.split()[-2]] += 1  # the status, as in … "GET / HTTP/1.1" 200 5120
    return dict(counts)
