"""The classes by value that inputs refer to, as workers need them."""

from __future__ import annotations

from collections.abc import Sequence

from dq.functions import by_value_classes

Definition = tuple[tuple[str, ...], bytes]  # names of classes, and the pickle that defines them


class Definitions:
    """The classes that a job's inputs refer to. They are sent to each connection in this order.

    Attributes:
        entries: their names and pickled definitions. The list is only appended to, so it needs no
            lock.
    """

    def __init__(self) -> None:
        self.entries: list[Definition] = []
        self._defined: dict[str, type] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def after(self, known: int) -> list[Definition]:
        """Those after the first `known`."""
        return self.entries[known:]

    def receive(self, definitions: Sequence[Definition]) -> None:
        """Add definitions that another process has made. They replace earlier ones of the same
        classes, whose places stay."""
        for names, pickled in definitions:
            for place, (earlier, _) in enumerate(self.entries):
                if earlier and set(earlier) <= set(names):
                    self.entries[place] = ((), b"")
            self.entries.append((names, pickled))

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


class CurrentDefinitions(Definitions):
    """The same for the calls of an executor. These are one job for as long as that lives, and each
    call is to see the classes of its arguments as they are then, so they are defined again once
    they have changed."""

    def __init__(self) -> None:
        super().__init__()
        self._contents: dict[str, list[dict[str, object]]] = {}

    def add(self, found: dict[str, type]) -> None:
        contents = {name: by_value_classes.content_of(kind) for name, kind in found.items()}
        changed = [name for name, content in contents.items() if self._has_changed(name, content)]
        known = len(self.entries)
        for name in changed:
            self._defined.pop(name, None)
        super().add(found)
        self._contents |= contents
        # Places are to stay, and a script may change a class before each call.
        for place, (names, _) in enumerate(self.entries[:known] if changed else ()):
            if len(names) == 1 and names[0] in changed:
                self.entries[place] = ((), b"")

    def _has_changed(self, name: str, content: list[dict[str, object]]) -> bool:
        before = self._contents.get(name)
        return before is not None and not by_value_classes.is_same(before, content)
