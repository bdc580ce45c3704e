"""The classes by value that inputs refer to, as workers need them."""

from __future__ import annotations


class Definitions:
    """The classes that a job's inputs refer to. They are sent to each connection in this order.

    Attributes:
        entries: their names and pickled definitions. The list is only appended to, so it needs no
            lock.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[tuple[str, ...], bytes]] = []
        self._defined: dict[str, type] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def after(self, known: int) -> list[tuple[tuple[str, ...], bytes]]:
        """Those after the first `known`."""
        return self.entries[known:]

    def add(self, found: dict[str, type]) -> None:
        """Add classes whose definitions workers need before they get the next inputs.

        Raises:
            BadTask: one refers to something that cannot be pickled.
        """
        new = {name: kind for name, kind in found.items() if name not in self._defined}
        if new:
            from dq.functions import sending  # here, since few inputs need it

            self.entries.append((tuple(new), sending.definitions_of(new.values())))
            self._defined.update(new)
