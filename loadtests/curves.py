"""How many come, over a run: shares of the most there are, from 0 to 1, for how much of the run is over. No I/O."""

from collections.abc import Callable

Curve = Callable[[float], float]
"""From the part of the run that is over, 0 to 1, to the share of visitors who are there then."""

HOURS = (3, 2, 1, 1, 1, 3, 10, 35, 75, 95, 100, 80, 45, 60, 95, 100, 85, 60, 40, 40, 45, 35, 18, 7)
"""An ordinary day, hour by hour, in percent of the busiest: most ask while offices are open, fewer at noon, some in the
evening. Assumed: we know of no published curve."""

NINE = 0.1
"""The part of results day's run that is over at nine o'clock."""


def steady(_: float) -> float:
    """All of them, all the time."""
    return 1.0


def ordinary_day(over: float) -> float:
    """Twenty-four hours in one run, a step every hour."""
    return HOURS[min(int(over * len(HOURS)), len(HOURS) - 1)] / 100


def results_day(over: float) -> float:
    """A few before nine; all at nine, within a second or two; from the middle on they leave, by thirds."""
    if over < NINE:
        return 0.1
    return 1.0 if over < 0.6 else 0.66 if over < 0.8 else 0.33


def storm(over: float) -> float:
    """Quiet, then all at once, then ebbing: a portal has put a link on its first page."""
    if over < 0.15:
        return 0.1
    return 1.0 if over < 0.6 else 0.5 if over < 0.8 else 0.2
