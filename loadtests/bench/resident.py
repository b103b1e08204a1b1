"""How much memory a process has resident, and whether a row of looks at it grows."""

import statistics
from collections.abc import Sequence

import psutil

EVERY_SECONDS = 1.0
MEGABYTE = 1e6
WINDOWS = 6
"""A level is the mean over this part of all looks: over five seconds of thirty."""


def resident(pid: int) -> int:
    """What is resident now, in bytes."""
    return int(psutil.Process(pid).memory_info().rss)


def level(looks: Sequence[int], share: float) -> float:
    """The level when this share of the time was over: 0.5 from the middle on; 1 up to the end."""
    width = max(1, len(looks) // WINDOWS)
    begin = min(int(share * len(looks)), len(looks) - width)
    return statistics.fmean(looks[begin : begin + width])


def growth(looks: Sequence[int]) -> float:
    """How much the level rose in the second half: 0.05 when it ended five hundredths above that of the middle."""
    return level(looks, 1.0) / level(looks, 0.5) - 1
