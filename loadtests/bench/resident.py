"""How much memory a process has resident, looked at every second from a thread."""

import statistics
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import psutil

EVERY_SECONDS = 1.0
MEGABYTE = 1e6
WINDOWS = 6
"""A level is the mean over this part of all looks: over five seconds of thirty."""


class Resident:
    """Looks for as long as the block runs, or until the process is gone."""

    def __init__(self, pid: int) -> None:
        self.looks: list[int] = []
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="resident")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    @property
    def alive(self) -> bool:
        """Whether that very process is still there, and not another one with its number."""
        return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self.looks.append(self._process.memory_info().rss)
                self._over.wait(EVERY_SECONDS)
        except psutil.NoSuchProcess:
            pass


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
