"""The seed for hashes in all task processes of this process's runs."""

from __future__ import annotations

import os

HASH_SEED = "PYTHONHASHSEED"

_seeds: list[int] = []  # the one that this process has chosen


def hash_seed() -> int:
    """The seed in PYTHONHASHSEED or, if there is none, a random one that is the same at each call.

    By default each Python process has its own seed, and `hash("a") % 8` differs between processes.
    """
    if not _seeds:
        given = os.environ.get(HASH_SEED, "")
        _seeds.append(int(given) if given.isdigit() else int.from_bytes(os.urandom(4), "big") or 1)
    return _seeds[0]
