"""Charts of a stretch of time, drawn by matplotlib; where that is not installed there are none.

It is a package of the bench's environment (`make bench` installs it): run the game day with `.venv-bench/bin/python`.
"""

import base64
import io
import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from loadtests.gameday.record import CHANGES, FAILED, LOOKUPS, Seen, Window, quantile

MOST_STEPS = 900
"""Steps that can be told apart in a chart."""
INCHES = (12, 9)
DOTS_PER_INCH = 90


class Span(NamedTuple):
    """A stretch of time with a name, in seconds from the window's beginning; `kept` colours it."""

    name: str
    began: float
    ended: float
    kept: bool = True


Value = Callable[[Sequence[Seen], float], float]
"""From what was seen within a step, and the step's seconds, to a value."""


def _share(outcome: str) -> Value:
    return lambda seen, _: 100 * sum(s.outcome == outcome for s in seen) / max(1, len(seen))


def _seconds(share: float) -> Value:
    return lambda seen, _: quantile(sorted(s.seconds for s in seen if s.outcome != "limited"), share)


def _age(share: float) -> Value:
    return lambda seen, _: quantile(sorted(s.age for s in seen if s.age is not None), share)


def _source(source: str) -> Value:
    return lambda seen, step: sum(s.source == source for s in seen) / step


def _outcomes(*outcomes: str) -> Value:
    return lambda seen, step: sum(s.outcome in outcomes for s in seen) / step


PANELS: tuple[tuple[str, frozenset[str], dict[str, Value]], ...] = (
    ("Lookups that failed, % of all", LOOKUPS, {outcome: _share(outcome) for outcome in sorted(FAILED)}),
    ("Seconds until answered", LOOKUPS, {"median": _seconds(0.5), "p99": _seconds(0.99)}),
    ("Age of answers, seconds", LOOKUPS, {"median": _age(0.5), "oldest": _age(1.0)}),
    ("Where answers came from, a second", LOOKUPS, {s: _source(s) for s in ("cache", "postgres", "none")}),
    (
        "Changes, a second",
        CHANGES,
        {"at once": _outcomes("good"), "by a repeat": _outcomes("refused"), "not": _outcomes(*FAILED)},
    ),
)
"""Title, kinds, and lines by name. A lookup counts where it was asked, a change where it was answered."""


def steps(window: Window, kinds: frozenset[str], step: float) -> list[list[Seen]]:
    """What was seen of these kinds, in steps of so many seconds."""
    found: list[list[Seen]] = [[] for _ in range(max(1, math.ceil((window.ended - window.began) / step)))]
    for seen in window:
        moment = seen.answered_at if seen.kind in CHANGES else seen.at
        if seen.kind in kinds and moment < window.ended:
            found[int((moment - window.began) / step)].append(seen)
    return found


def drawn(window: Window, spans: Sequence[Span]) -> str:
    """All panels as one picture, as a data: address; empty without matplotlib."""
    if find_spec("matplotlib") is None:
        return ""
    from matplotlib.figure import Figure

    step = max(1.0, (window.ended - window.began) / MOST_STEPS)
    figure: Any = Figure(figsize=INCHES, layout="constrained")
    for place, (title, kinds, lines) in zip(figure.subplots(len(PANELS), sharex=True), PANELS, strict=True):
        within = steps(window, kinds, step)
        moments = [n * step for n in range(len(within))]
        for name, value in lines.items():
            place.plot(moments, [value(seen, step) for seen in within], label=name, linewidth=1)
        for span in spans:
            place.axvspan(span.began, span.ended, color="tab:green" if span.kept else "tab:red", alpha=0.15)
        place.set_title(title, fontsize=9, loc="left")
        place.tick_params(labelsize=7)
        place.grid(alpha=0.25)
        place.legend(fontsize=6, loc="upper right")
        if title.startswith("Seconds"):
            place.set_yscale("log")
    first = figure.axes[0]
    for span in spans:
        place = {"xycoords": ("data", "axes fraction"), "annotation_clip": False}
        first.annotate(span.name, (span.began, 1.2), rotation=60, fontsize=6, **place)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=DOTS_PER_INCH)
    return f"data:image/png;base64,{base64.b64encode(picture.getvalue()).decode()}"
