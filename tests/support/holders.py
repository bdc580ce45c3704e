"""Classes whose values hold others."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Plain:
    """Nothing but what is in its `__dict__`."""

    held: object


@dataclass(frozen=True)
class Frozen:
    """The same, with a hash, which it cannot have before it has what it holds."""

    held: object
    others: set[object] = field(default_factory=set, compare=False)
