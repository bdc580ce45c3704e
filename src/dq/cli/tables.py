"""Tables for people, which fit the width of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dq._support.frozen import frozen

GAP = "  "
LEAST = 8  # columns that the widest cell keeps, however narrow the terminal is


@frozen
class Column:
    """A column of a table.

    Args:
        title: the word above it.
        cells: one for each row; "" where there is nothing to say.
        right: whether cells are at its right side, as numbers are.
        shrinks: whether cells may be cut, so that the table fits.
        spare: whether it may be left out, if that is not enough; the highest goes first.
    """

    title: str
    cells: Sequence[str]
    right: bool = False
    shrinks: bool = False
    spare: int = 0

    @property
    def width(self) -> int:
        return max(map(len, (self.title, *self.cells)))

    @property
    def least(self) -> int:
        """How many columns of the terminal it needs at least."""
        return min(self.width, max(LEAST, len(self.title))) if self.shrinks else self.width


def table(columns: Sequence[Column], width: int) -> list[str]:
    """The lines of a table. Columns without anything in them are left out.

    >>> table([Column("JOB", ["7", "12"], right=True), Column("NAME", ["", ""]),
    ...        Column("TASK", ["app:square", "math:sqrt"], shrinks=True)], 14)
    ['JOB  TASK', '  7  app:s...', ' 12  math:...']
    """
    shown = [column for column in columns if any(column.cells)]
    while _width(column.least for column in shown) >= width:
        spare = max(shown, key=lambda column: column.spare)
        if not spare.spare:
            break
        shown.remove(spare)
    widths = [column.width for column in shown]
    excess = _width(widths) - (width - 1)
    for place, column in enumerate(shown):
        if column.shrinks and excess > 0:
            narrower = max(widths[place] - excess, column.least)
            excess -= widths[place] - narrower
            widths[place] = narrower
    rows = zip(*[(column.title, *column.cells) for column in shown], strict=True)
    return [_line(row, shown, widths) for row in rows]


def _width(widths: Iterable[int]) -> int:
    every = list(widths)
    return sum(every) + len(GAP) * (len(every) - 1)


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    parts = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        cut = cell if len(cell) <= width else f"{cell[: width - 3]}..."
        parts.append(cut.rjust(width) if column.right else cut.ljust(width))
    return GAP.join(parts).rstrip()
