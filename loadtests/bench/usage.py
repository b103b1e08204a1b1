"""How busy the two cores were during a run, and how much of that was none of ours.

A benchmark on a machine that does something else as well measures that, too. This says so.
"""

import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psutil

from loadtests.system.processes import OTHER_CORE, SERVER_CORE


@dataclass(frozen=True)
class Usage:
    """Shares of one core's time, 1.0 being all of it. Interrupts count as busy: they are much of a fast answer."""

    server_core: float
    other_core: float
    strangers: float
    """What processes that are not the bench's took on the cores together, and what the hypervisor gave to others."""


DISTURBED = 0.05
"""The share of a core from which on strangers spoil a run."""
LOOK_SECONDS = 1.0


class Patience:
    """How long the whole bench will still wait for others on the machine to be done."""

    def __init__(self, seconds: float) -> None:
        self.left = seconds

    def wait_for_quiet(self, roots: Iterable[int]) -> None:
        """Returns as soon as no other process has been busy for a second, or when there is no patience left."""
        began = time.monotonic()
        disturbed = True
        while disturbed and time.monotonic() - began < self.left:
            meter = Meter(roots)
            time.sleep(LOOK_SECONDS)
            disturbed = meter.read().strangers > DISTURBED
        waited = max(0.0, time.monotonic() - began - LOOK_SECONDS)  # the first look does not count
        self.left = max(0.0, self.left - waited)


class Meter:
    """Started before a run; `read` afterwards."""

    def __init__(self, roots: Iterable[int]) -> None:
        self._roots = tuple(roots)
        self._cores = psutil.cpu_times(percpu=True)
        self._own = self._own_seconds()

    def read(self) -> Usage:
        """What has been used since."""
        before, after = self._cores, psutil.cpu_times(percpu=True)
        own = self._own_seconds() - self._own
        passed = sum(after[SERVER_CORE]) - sum(before[SERVER_CORE])
        server, other = (1 - (_idle(after[core]) - _idle(before[core])) / passed for core in (SERVER_CORE, OTHER_CORE))
        taken = sum(_taken(after[core]) - _taken(before[core]) for core in (SERVER_CORE, OTHER_CORE))
        return Usage(server, other, max(0.0, taken - own) / passed)

    def _own_seconds(self) -> float:
        """The processor time of the trees below the roots, of this process, and of its children that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = ended.ru_utime + ended.ru_stime
        for root in (psutil.Process(pid) for pid in self._roots):
            for process in (root, *root.children(recursive=True)):
                try:
                    seconds += sum(process.cpu_times()[:2])
                except psutil.NoSuchProcess:
                    continue  # a session of Postgres's that has just ended; what it used is lost
        return seconds + sum(psutil.Process().cpu_times()[:2])


def _idle(core: Any) -> float:
    return float(core.idle + core.iowait)


def _taken(core: Any) -> float:
    """What processes took, without interrupts, which belong to none."""
    return float(core.user + core.nice + core.system + core.steal)
