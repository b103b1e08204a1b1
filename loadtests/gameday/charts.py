"""Charts over time as SVG, one above the other on one axis, with spans marked through all of them.

Written by hand and not by matplotlib: it is lines over one axis, the same where that is not installed, and colours that
follow the page they stand in (classes, not colours, are written here), which pictures of matplotlib do not.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 1000
LEFT, RIGHT = 52, 6
HEIGHT = 110
"""Of one panel."""
GAP = 46
"""Above each panel, for its title and its legend."""
FOOT = 26
LETTER = 6.0
"""Width of a letter, more or less."""
LONGEST_NAME = 30
NAME_APART = 13.0
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds that may lie between two ticks of the time axis."""
MOST_TICKS = 12


@dataclass(frozen=True, slots=True)
class Line:
    """One value a step, NaN where there is none. `colour` is a class of the page: c1 to c5."""

    name: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines on one scale. `top`: what the scale reaches at the least; `stacked`: each line stands on those before.

    A logarithmic one is of seconds; it begins at `bottom` and shows what is smaller as that.
    """

    title: str
    lines: Sequence[Line]
    top: float
    logarithmic: bool = False
    bottom: float = 0.001
    stacked: bool = False


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time with a name, in seconds from the beginning; `kept` colours it."""

    name: str
    began: float
    ended: float
    kept: bool = True


def drawn(panels: Sequence[Panel], step: float, spans: Sequence[Span] = ()) -> str:
    """All panels as one SVG. The values of every line are `step` seconds apart, the first at 0."""
    seconds = step * max((len(line.values) for panel in panels for line in panel.lines), default=1)
    head = 22 + min(LONGEST_NAME, max((len(span.name) for span in spans), default=0)) * LETTER if spans else 0
    height = head + len(panels) * (GAP + HEIGHT) + FOOT
    canvas = _Canvas(seconds, step, head, height)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(", ".join(panel.title for panel in panels))}">',
        *canvas.spans(spans),
        *(part for number, panel in enumerate(panels) for part in canvas.panel(number, panel)),
        *canvas.time_axis(),
        "</svg>",
    ]
    return "\n".join(parts)


class _Canvas:
    """Where things lie: pixels of seconds and of values."""

    def __init__(self, seconds: float, step: float, head: float, height: float) -> None:
        self._seconds, self._step = max(seconds, step), step
        self._head, self._height = head, height

    def spans(self, spans: Sequence[Span]) -> Iterator[str]:
        """Each as a band behind everything, its name upright above it, beside the others' where they are narrow."""
        ordered = sorted(spans, key=lambda span: span.began)
        middles = [(self._x(span.began) + self._x(span.ended)) / 2 for span in ordered]
        for span, middle, place in zip(ordered, middles, _apart(middles), strict=True):
            left, width = self._x(span.began), max(2.0, self._x(span.ended) - self._x(span.began))
            name = span.name if len(span.name) <= LONGEST_NAME else f"{span.name[: LONGEST_NAME - 1]}…"
            yield f'<g class="span {"kept" if span.kept else "broken"}">'
            yield f"<title>{escape(span.name)}: {span.began:.0f} to {span.ended:.0f} s</title>"
            yield f'<rect x="{left:.1f}" y="{self._head:.0f}" width="{width:.1f}"'
            yield f' height="{self._height - self._head - FOOT:.0f}"/>'
            yield f'<path class="lead" d="M{place:.1f} {self._head - 10:.0f}L{middle:.1f} {self._head:.0f}"/>'
            turned = f"translate({place + 4:.1f} {self._head - 12:.0f}) rotate(-90)"
            yield f'<text transform="{turned}">{escape(name)}</text></g>'

    def panel(self, number: int, panel: Panel) -> Iterator[str]:
        """Title, legend, grid and lines."""
        foot = self._head + (number + 1) * (GAP + HEIGHT)
        scale = _Scale(panel, foot)
        yield f'<text class="title" x="0" y="{foot - HEIGHT - 26:.0f}">{escape(panel.title)}</text>'
        yield from self._legend(panel, foot - HEIGHT - 10)
        for value in scale.ticks():
            y = scale.y(value)
            yield f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            yield f'<text class="tick end" x="{LEFT - 5}" y="{y + 3.5:.1f}">{scale.word(value)}</text>'
        yield from self._areas(panel, scale) if panel.stacked else self._lines(panel, scale)

    def time_axis(self) -> Iterator[str]:
        """Minutes and seconds since the beginning, below everything."""
        every = next((tick for tick in TICKS if self._seconds / tick <= MOST_TICKS), TICKS[-1])
        for n in range(int(self._seconds // every) + 1):
            at = n * every
            word = f"{at // 60}:{at % 60:02d}" if every % 60 else f"{at // 60} min"
            anchor = "end" if self._x(at) > WIDTH - 30 else "middle"
            yield f'<text class="tick {anchor}" x="{self._x(at):.1f}" y="{self._height - 8:.0f}">{word}</text>'

    def _legend(self, panel: Panel, y: float) -> Iterator[str]:
        x = float(LEFT)
        for line in panel.lines:
            yield f'<rect class="fill {line.colour}" x="{x:.0f}" y="{y - 8:.0f}" width="10" height="10" rx="2"/>'
            yield f'<text class="tick" x="{x + 14:.0f}" y="{y + 1:.0f}">{escape(line.name)}</text>'
            x += 30 + len(line.name) * LETTER

    def _lines(self, panel: Panel, scale: "_Scale") -> Iterator[str]:
        for line in panel.lines:
            points = (
                None if math.isnan(value) else (self._at(n), scale.y(value)) for n, value in enumerate(line.values)
            )
            yield f'<path class="line {line.colour}" d="{_path(points)}"><title>{escape(line.name)}</title></path>'

    def _areas(self, panel: Panel, scale: "_Scale") -> Iterator[str]:
        below = [0.0] * max((len(line.values) for line in panel.lines), default=0)
        for line in panel.lines:
            above = [under + value for under, value in zip(below, line.values, strict=True)]
            there = [(self._at(n), scale.y(value)) for n, value in enumerate(above)]
            back = [(self._at(n), scale.y(value)) for n, value in reversed(list(enumerate(below)))]
            if there:
                path = f"{_path([*there, *back])}Z"
                yield f'<path class="fill {line.colour}" d="{path}"><title>{escape(line.name)}</title></path>'
            below = above

    def _at(self, number: int) -> float:
        return self._x((number + 0.5) * self._step)

    def _x(self, seconds: float) -> float:
        share = min(1.0, max(0.0, seconds / self._seconds))
        return LEFT + share * (WIDTH - LEFT - RIGHT)


class _Scale:
    """Values of one panel as pixels; larger ones are higher up."""

    def __init__(self, panel: Panel, foot: float) -> None:
        self._foot, self._logarithmic, self._bottom = foot, panel.logarithmic, panel.bottom
        self._top = _round_up(max(panel.top, _highest(panel)), logarithmic=panel.logarithmic)

    def y(self, value: float) -> float:
        return self._foot - HEIGHT * min(1.0, max(0.0, self._share(value)))

    def ticks(self) -> list[float]:
        """Where the grid's lines are."""
        if not self._logarithmic:
            return [0.0, self._top / 2, self._top]
        first, last = round(math.log10(self._bottom)), round(math.log10(self._top))
        return [10.0**exponent for exponent in range(first, last + 1)]

    def word(self, value: float) -> str:
        """A tick's name."""
        if not self._logarithmic:
            return f"{value:,.0f}" if value >= 1000 else f"{value:g}"
        return f"{value:g} s" if value >= 1 else f"{value * 1000:g} ms"

    def _share(self, value: float) -> float:
        if not self._logarithmic:
            return value / self._top
        whole = math.log10(self._top / self._bottom)
        return math.log10(max(value, self._bottom) / self._bottom) / whole


def _apart(places: Sequence[float]) -> list[float]:
    """Places as near to these, which rise, as can be without two names on top of each other."""
    found: list[float] = []
    for place in places:
        found.append(max(place, found[-1] + NAME_APART) if found else max(place, LEFT + 6.0))
    limit = WIDTH - RIGHT - 6.0
    for n in reversed(range(len(found))):
        found[n] = min(found[n], limit)
        limit = found[n] - NAME_APART
    return found


def _highest(panel: Panel) -> float:
    if panel.stacked:
        return max((sum(values) for values in zip(*(line.values for line in panel.lines), strict=True)), default=0.0)
    return max((value for line in panel.lines for value in line.values if not math.isnan(value)), default=0.0)


def _round_up(value: float, *, logarithmic: bool) -> float:
    """The next round number: a power of ten, or 1, 2 or 5 times one."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-9)
    steps = (1, 10) if logarithmic else (1, 2, 5, 10)
    return next(step * power for step in steps if step * power >= value * (1 - 1e-9))


def _path(points: Iterable[tuple[float, float] | None]) -> str:
    """Through these points; it is lifted where there is none, and a point alone is a short stroke."""
    parts, down = [], False
    for point in points:
        if point is None:
            down = False
        elif down:
            parts.append(f"L{point[0]:.1f} {point[1]:.1f}")
        else:
            parts.append(f"M{point[0]:.1f} {point[1]:.1f}h.1")
            down = True
    return "".join(parts)
