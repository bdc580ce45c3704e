"""Line plots as SVG, on linear or logarithmic axes, without anything to install."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 780, 440
LEFT, RIGHT, TOP, BOTTOM = 80, 270, 44, 56  # room for numbers, names, the title
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
DASHES = ["", "7 3", "2 3", "9 3 2 3", "5 5", "1 4", "12 4"]  # for who does not see the colours


@dataclass(frozen=True)
class Axis:
    """One of the two.

    Args:
        label: what it measures, with the unit.
        low: where it starts; above 0 if it is logarithmic.
        high: where it ends.
        log: whether equal ratios are equally far apart.
        show: a tick's number, for people.
    """

    label: str
    low: float
    high: float
    log: bool = True
    show: Callable[[float], str] = "{:g}".format

    def place(self, value: float) -> float:
        """From 0 at the low end to 1 at the high one.

        >>> Axis("", 1, 100).place(10), Axis("", 0, 8, log=False).place(2)
        (0.5, 0.25)
        """
        low, high = self.low, self.high
        if self.log:
            value, low, high = (math.log10(max(x, 1e-300)) for x in (value, low, high))
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def ticks(self) -> list[float]:
        """
        >>> Axis("", 1, 1000).ticks(), Axis("", 0, 1, log=False).ticks()
        ([1.0, 10.0, 100.0, 1000.0], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
        """
        if self.log:
            first, last = (math.log10(x) for x in (self.low, self.high))
            return [10.0**n for n in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)]
        step = (self.high - self.low) / 5
        return [round(self.low + n * step, 10) for n in range(6)]


def around(values: Sequence[float], label: str, show: Callable[[float], str]) -> Axis:
    """A logarithmic axis from the power of ten below all values to the one above."""
    low, high = (math.log10(x) for x in (min(values), max(values)))
    first = math.floor(low + 1e-9)
    last = max(math.ceil(high - 1e-9), first + 1)
    return Axis(label, 10.0**first, 10.0**last, show=show)


def plot(title: str, x: Axis, y: Axis, lines: Mapping[str, Points], note: str = "") -> str:
    """The text of an SVG file: a line for each name."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        f' font-family="sans-serif" font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 22, title, size=15),
        *_grid(x, y),
    ]
    for number, (name, points) in enumerate(lines.items()):
        parts += _line(number, name, [(_x(x, a), _y(y, b)) for a, b in points])
    if note:
        parts.append(_text(LEFT, HEIGHT - 6, note, size=10, fill="#666"))
    return "\n".join([*parts, "</svg>", ""])


def _x(axis: Axis, value: float) -> float:
    return round(LEFT + axis.place(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(axis: Axis, value: float) -> float:
    return round(HEIGHT - BOTTOM - axis.place(value) * (HEIGHT - TOP - BOTTOM), 1)


def _grid(x: Axis, y: Axis) -> list[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick in x.ticks():
        at = _x(x, tick)
        parts.append(f'<path d="M{at} {TOP}V{bottom}" stroke="#ddd"/>')
        parts.append(_text(at, bottom + 16, x.show(tick), anchor="middle"))
    for tick in y.ticks():
        at = _y(y, tick)
        parts.append(f'<path d="M{LEFT} {at}H{right}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, at + 4, y.show(tick), anchor="end"))
    parts.append(_text((LEFT + right) / 2, bottom + 34, x.label, anchor="middle"))
    parts.append(_text(LEFT, TOP - 8, y.label))
    return parts


def _line(number: int, name: str, points: Points) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    style = f'stroke="{colour}" stroke-dasharray="{DASHES[number % len(DASHES)]}"'
    path = " ".join(f"{a},{b}" for a, b in points)
    at = TOP + 10 + 18 * number
    left = WIDTH - RIGHT + 14
    parts = [f'<polyline points="{path}" fill="none" {style} stroke-width="2"/>']
    if len(points) <= 20:
        parts += [f'<circle cx="{a}" cy="{b}" r="3" fill="{colour}"/>' for a, b in points]
    parts.append(f'<path d="M{left} {at - 4}h24" {style} stroke-width="2"/>')
    return [*parts, _text(left + 30, at, name)]


def _text(
    x: float, y: float, text: str, anchor: str = "start", size: int = 12, fill: str = "#222"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size}" fill="{fill}">'
        f"{escape(text)}</text>"
    )
