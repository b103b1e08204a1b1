"""What one step has found: counts, bytes and seconds, kept as JSON between steps and runs.

Bytes, counts and buffers do not depend on what else the machine does; times and rates do, and `WrkRun.strangers` says
how much of a core others had meanwhile.
"""

from pathlib import Path

import msgspec


class Loading(msgspec.Struct, frozen=True):
    """What it took to bring this step's dossiers in. `seconds` are those of the imports alone."""

    added: int
    seconds: float
    wal_bytes: int
    """What the log grew by from the step's beginning to the end of its last import, autovacuum's part included."""


class Relation(msgspec.Struct, frozen=True):
    """One table with all its partitions, in bytes. `rest`: TOAST, free space and visibility maps."""

    rows: int
    heap: int
    rest: int
    indexes: dict[str, int]

    @property
    def total(self) -> int:
        return self.heap + self.rest + sum(self.indexes.values())


class Cost(msgspec.Struct, frozen=True):
    """Buffers that the reader's own statement touches for one code, over a sample of random ones."""

    sampled: int
    mean: float
    least: int
    most: int
    of_dossier: float
    """Of the mean, those of the dossier's index and table; the others are the heartbeat's, the epoch's and so on."""
    in_batch: float
    """Of the dossier's index and table for each code, when 64 travel in one statement."""
    sequential: int
    """Statements that read a whole partition; there must be none."""


class Timing(msgspec.Struct, frozen=True):
    """How long that statement took inside Postgres, in milliseconds, and what had to come from the disk for it."""

    median: float
    p99: float
    disk_bytes: float
    """For each lookup, as the kernel counts what the session read from the device."""


class WrkRun(msgspec.Struct, frozen=True):
    """wrk on one running lookup."""

    connections: int
    answers: int
    seconds: float
    median: float
    p99: float
    errors: int
    cpu: dict[str, float]
    """Microseconds of processor time for each answer: of the lookup, of Postgres, of Redis."""
    strangers: float
    """Share of a core that went to processes that had nothing to do with it."""

    @property
    def rate(self) -> float:
        return self.answers / self.seconds


class Step(msgspec.Struct, frozen=True):
    """One number of dossiers, and all that was found there."""

    dossiers: int
    events: int
    loading: Loading
    database_bytes: int
    relations: dict[str, Relation]
    cost: Cost
    from_memory: Timing
    from_disk: Timing
    runs: dict[str, WrkRun]
    redis_bytes: float
    """What one dossier takes in Redis, key included."""
    conditions: dict[str, str]


def read(path: Path) -> list[Step]:
    """The steps in that file, the smallest first; none if there is no file. Raises msgspec.ValidationError."""
    if not path.exists():
        return []
    return msgspec.json.decode(path.read_bytes(), type=list[Step])


def write(path: Path, steps: list[Step]) -> None:
    """Replace the file."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(steps), indent=1) + b"\n")
