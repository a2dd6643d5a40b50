"""Axes and lines of the report's charts. Sizes are SVG user units; colours are CSS classes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ringtrue.loadtest.html.markup import Markup, el, joined

WIDTH: Final = 960.0
LEFT: Final = 56.0
RIGHT: Final = 16.0
TOP: Final = 12.0
BOTTOM: Final = 34.0

STEPS: Final = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True, slots=True)
class Plot:
    """A rectangle with a linear axis each way."""

    x_max: float
    y_max: float
    height: float = 280.0
    x_min: float = 0.0
    y_min: float = 0.0

    def x(self, value: float) -> float:
        """Position of a value, kept inside."""
        part = (value - self.x_min) / (self.x_max - self.x_min)
        return round(LEFT + min(1.0, max(0.0, part)) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Likewise, upwards."""
        part = (value - self.y_min) / (self.y_max - self.y_min)
        return round(self.base - min(1.0, max(0.0, part)) * (self.base - TOP), 1)

    @property
    def base(self) -> float:
        """Where the horizontal axis lies."""
        return self.height - BOTTOM

    def grid(
        self,
        x_label: str,
        *,
        x_text: Callable[[float], str] = lambda value: f"{value:g}",
        y_text: Callable[[float], str] = lambda value: f"{value:g}",
        y_ticks: Sequence[float] | None = None,
    ) -> Markup:
        """Lines, numbers and the horizontal axis' name."""
        parts = []
        for value in ticks(self.y_min, self.y_max, 5) if y_ticks is None else y_ticks:
            at = self.y(value)
            parts.append(line(LEFT, at, WIDTH - RIGHT, at, "grid"))
            parts.append(text(LEFT - 8, at + 4, y_text(value), "tick end"))
        for value in ticks(self.x_min, self.x_max, 8):
            at = self.x(value)
            parts.append(line(at, self.base, at, self.base + 4, "axis"))
            parts.append(text(at, self.base + 17, x_text(value), "tick mid"))
        parts.append(line(LEFT, self.base, WIDTH - RIGHT, self.base, "axis"))
        parts.append(text(WIDTH - RIGHT, self.height - 3, x_label, "tick end"))
        return joined(parts)

    def path(self, points: Iterable[tuple[float, float]], kind: str, title: str) -> Markup:
        """A line through ``points``, with ``title`` when pointed at."""
        drawn = " L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)
        return el("path", el("title", title), d=f"M{drawn}", class_=f"line {kind}")

    def area(self, points: Sequence[tuple[float, float]], kind: str, title: str) -> Markup:
        """What lies between ``points`` and the axis."""
        if not points:
            return Markup()
        drawn = " L".join(f"{self.x(x)} {self.y(y)}" for x, y in points)
        first, last = self.x(points[0][0]), self.x(points[-1][0])
        d = f"M{first} {self.base} L{drawn} L{last} {self.base} Z"
        return el("path", el("title", title), d=d, class_=f"area {kind}")


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers from ``low`` to ``high``, some ``about`` of them."""
    span = high - low
    if span <= 0:
        return [low]
    rough = span / about
    power: float = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in STEPS if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def rounded_up(value: float) -> float:
    """A round number that is not below ``value``; 1 for nothing."""
    if value <= 0:
        return 1.0
    power: float = 10.0 ** math.floor(math.log10(value))
    steps = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return next(factor * power for factor in steps if factor * power >= value * 0.9999)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line."""
    return el("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def text(x: float, y: float, content: str, kind: str = "") -> Markup:
    """Words, beginning at (x, y) unless ``kind`` says ``mid`` or ``end``."""
    return el("text", content, x=x, y=y, class_=kind or None)


def rect(
    x: float, y: float, width: float, height: float, kind: str, title: str | None = None
) -> Markup:
    """A filled rectangle; ``title`` shows when it is pointed at."""
    children = () if title is None else (el("title", title),)
    size = {"x": x, "y": y, "width": max(0.0, width), "height": height}
    return el("rect", *children, class_=kind, **size)


def svg(height: float, *children: str, label: str) -> Markup:
    """A drawing as wide as the page; ``label`` says in words what it shows."""
    box = f"0 0 {WIDTH:g} {height:g}"
    return el("svg", *children, viewBox=box, role="img", aria_label=label)


def legend(entries: Iterable[tuple[str, str]]) -> Markup:
    """Names beside their colours: (class, name)."""
    keys = [
        el("span", el("i", class_=f"swatch {kind}"), name, class_="key") for kind, name in entries
    ]
    return el("p", *keys, class_="legend")
