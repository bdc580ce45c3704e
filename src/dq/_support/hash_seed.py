"""The seed of the hashes in all task processes of this process's runs."""

from __future__ import annotations

import os

HASH_SEED = "PYTHONHASHSEED"

_seeds: list[int] = []  # the one that this process has chosen


def hash_seed() -> int:
    """The user's where PYTHONHASHSEED has one, else a random one, the same at each call.

    With one for each process, as Python has it, `hash("a") % 8` would be another number in each.
    """
    if not _seeds:
        given = os.environ.get(HASH_SEED, "")
        _seeds.append(int(given) if given.isdigit() else int.from_bytes(os.urandom(4), "big") or 1)
    return _seeds[0]
