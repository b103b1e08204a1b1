"""What a step will take, from what the one before took: said before it begins, and held to while it goes on."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtests.national.findings import Step

PASSING = 10 * 2**30
"""Room for what comes and goes: up to 8 GiB of log before a checkpoint, two parts' files, what Redis and logs write."""


@dataclass(frozen=True)
class Rate:
    """What one dossier takes, and how many come in a second; `source` says whose figures these are."""

    bytes: float
    per_second: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """Of a step. `fits`: how many of the dossiers the disk takes with the reserve left free."""

    dossiers: int
    bytes: float
    seconds: float
    fits: int

    @property
    def all_fit(self) -> bool:
        return self.fits >= self.dossiers


def rate(own: Sequence[Step], published: Sequence[Step]) -> Rate | None:
    """From the last step in this folder, else from the last that was published; None if there is neither."""
    for steps, source in ((own, "the step before"), (published, "the published figures")):
        if steps:
            last = steps[-1]
            loading = last.loading
            return Rate(
                last.database_bytes / last.dossiers, loading.added / loading.seconds, f"{source}, {last.dossiers:,}"
            )
    return None


def estimate(rate: Rate, dossiers: int, free: int, reserve: int) -> Estimate:
    """Of so many more dossiers, with so many bytes free of which `reserve` have to stay free."""
    room = max(0, free - reserve - PASSING)
    return Estimate(dossiers, rate.bytes * dossiers, dossiers / rate.per_second, min(dossiers, int(room / rate.bytes)))


def free(path: Path) -> int:
    """Bytes free on the disk that holds it."""
    return shutil.disk_usage(path).free
