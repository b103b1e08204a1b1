"""The steps, one after the other, and what is remembered between them."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil

from loadtests.bench.servers import ours
from loadtests.machine import commit, processor
from loadtests.national import cost, measures, results
from loadtests.national.findings import Cost, Loading, Relation, Step, Timing, WrkRun
from loadtests.national.parts import DAYS, Parts, Year
from loadtests.national.throughput import FROM_DISK, Stand
from loadtests.system.installation import Installation, data_directory, forget, production, relaying, running
from loadtests.system.processes import CannotMeasure

SAMPLED = 2000
"""Codes whose lookup is explained, each alone and then in batches."""
ASKED = 100_000
"""Codes that wrk asks for."""
GB = 10**9
MARGIN = 2 * GB
"""What a part may take at the most, its file and the next one's included."""


@dataclass(frozen=True)
class NationalPlan:
    """What is to be done. `reserve`: bytes of the disk that stay free; `seconds` a run of wrk, 0 for none."""

    folder: Path
    steps: tuple[int, ...]
    year: Year
    reserve: int
    seconds: float
    results: Path

    @property
    def figures(self) -> Path:
        """Where the figures of the page are kept."""
        return self.results.with_name("measured.json")


class Pending(msgspec.Struct):
    """A step under way, from so many parts on. `began` and `ended`: how far the log had come, in bytes."""

    began: int
    from_parts: int
    ended: int | None = None


class FolderMemory(msgspec.Struct):
    """What the folder knows. `besides`: dossiers that were there before the first part; None before anything is."""

    year: Year
    besides: int | None = None
    steps: list[Step] = []
    pending: Pending | None = None


@dataclass(frozen=True)
class Counted:
    """What was counted after a load of so many parts; `data`: where Postgres keeps it."""

    parts: int
    loading: Loading
    data: Path
    relations: dict[str, Relation]
    database_bytes: int


class Country:
    """One folder with its system. `go` does what is left to do of the plan."""

    def __init__(self, plan: NationalPlan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say
        self._path = plan.folder / "national.json"
        self._memory = FolderMemory(plan.year)

    def go(self) -> list[Step]:
        """Every step that is not done yet; all that are. Raises CannotMeasure, and goes on from there the next time."""
        if self._path.exists():
            self._memory = self._remembered()
        for dossiers in self._plan.steps:
            if self._done(dossiers):
                self._say(f"{dossiers:,} dossiers: done before.")
            # A step that was under way may have been a smaller one.
            while not self._done(dossiers) and self._step(dossiers):
                pass
        if not self._memory.steps:
            raise CannotMeasure("There is no room for the first step.")
        return self._memory.steps

    def _done(self, dossiers: int) -> bool:
        return any(step.dossiers >= dossiers for step in self._memory.steps)

    def _step(self, dossiers: int) -> bool:
        """Load, measure and publish as many as fit on the disk; whether those are more than before."""
        size = self._memory.year.size
        with self._house() as system:
            if self._memory.besides is None:
                self._memory.besides = measures.counted(system)["dossier"].rows
                self._remember()
            parts = Parts(system, self._memory.year)
            number = self._load(system, parts, dossiers // size)
            if not number or self._done(number * size):
                self._say(f"{dossiers:,} dossiers: the disk has no room for more than there are.")
                return False
            self._say("Vacuum after the load …")
            measures.vacuum(system)
            counted = self._counted(system, parts, number)
        self._memory.steps.append(self._measured(counted))
        self._memory.pending = None
        self._remember()
        results.write(self._plan.results, self._plan.figures, self._memory.steps)
        return True

    def _load(self, system: Installation, parts: Parts, wanted: int) -> int:
        """Bring in what is missing; the number of parts there are then."""
        done = parts.done()
        pending = self._memory.pending
        if pending is None:
            pending = self._memory.pending = Pending(measures.log(system), done)
            self._remember()
        if pending.ended is not None:
            return done
        size, before = self._memory.year.size, pending.from_parts
        self._say(f"{wanted * size:,} dossiers: {(wanted - done) * size:,} to load.")
        if self._is_full(system):
            return done
        for number in parts.load(done, wanted):
            done = number
            self._say(f"{number * size:,} dossiers are in.")
            if number < wanted and self._is_full(system):
                break
        if done > before:
            pending.ended = measures.log(system)
            self._remember()
        return done

    def _is_full(self, system: Installation) -> bool:
        """Whether one more part might not leave the reserve free."""
        full = shutil.disk_usage(data_directory(system)).free < self._plan.reserve + MARGIN
        if full:
            self._say(f"The disk is as full as it may be with {self._plan.reserve / GB:g} GB left free.")
        return full

    def _counted(self, system: Installation, parts: Parts, number: int) -> Counted:
        """What there is to count. Raises CannotMeasure if those are not the dossiers that were loaded."""
        self._say("Counting …")
        pending, relations, dossiers = self._pending, measures.counted(system), number * self._memory.year.size
        if relations["dossier"].rows != (self._memory.besides or 0) + dossiers:
            raise CannotMeasure(
                f"There are {relations['dossier'].rows:,} dossiers and not {self._memory.besides:,} + {dossiers:,}."
            )
        assert pending.ended is not None
        loading = Loading(
            added=(number - pending.from_parts) * self._memory.year.size,
            seconds=parts.seconds(pending.from_parts, number),
            wal_bytes=pending.ended - pending.began,
        )
        return Counted(number, loading, data_directory(system), relations, measures.database_bytes(system))

    def _measured(self, counted: Counted) -> Step:
        """All that is to be found with so many parts in."""
        forget(counted.data)
        with self._house(pinned=True) as system, relaying(system) as relay:
            codes = Parts(system, self._memory.year).codes(counted.parts, SAMPLED + ASKED)
            sample, asked = codes[: min(SAMPLED, len(codes) // 2)], codes[min(SAMPLED, len(codes) // 2) :]
            touched, from_memory, from_disk = self._explained(system, sample, asked)
            if not self._plan.seconds:
                conditions = self._conditions(system, {})
        runs: dict[str, WrkRun] = {}
        redis_bytes = 0.0
        if self._plan.seconds:
            forget(counted.data)
            with self._house(pinned=True) as system, relaying(system) as relay:
                stand = Stand(system, relay, asked, self._plan.seconds, self._say)
                runs[FROM_DISK] = stand.from_disk()
                redis_bytes = stand.redis_bytes()
                runs |= stand.from_memory()
                conditions = self._conditions(system, runs)
        return Step(
            dossiers=counted.parts * self._memory.year.size,
            events=counted.relations["event"].rows,
            loading=counted.loading,
            database_bytes=counted.database_bytes,
            relations=counted.relations,
            cost=touched,
            from_memory=from_memory,
            from_disk=from_disk,
            runs=runs,
            redis_bytes=redis_bytes,
            conditions=conditions,
        )

    def _explained(self, system: Installation, sample: list[str], others: list[str]) -> tuple[Cost, Timing, Timing]:
        """What the lookup's statement costs over the sample, and how long it takes with all that it takes in memory,
        and with nothing.
        """
        self._say(f"Explaining {len(sample):,} lookups …")
        with ours(system).start() as server:
            statement = cost.caught(system, server, others)
        from_disk = cost.explained(system, statement, sample)
        from_memory = cost.explained(system, statement, sample)
        batches = cost.explained(system, statement, sample, batch=cost.BATCH)
        return cost.cost(from_memory, batches, len(sample)), cost.timing(from_memory), cost.timing(from_disk)

    def _conditions(self, system: Installation, runs: dict[str, WrkRun]) -> dict[str, str]:
        told = ", ".join(f"{name} {value}" for name, value in production().items())
        most = max((run.strangers for run in runs.values()), default=0.0)
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "hoso24": commit(*map(str, (self._plan.results, self._plan.figures))),
            "machine": f"{processor()}, {psutil.virtual_memory().total / 2**30:.0f} GiB",
            "PostgreSQL": f"{system.ask('reader', lambda reader: reader.fetchval('SHOW server_version'))}; {told}",
            "parts": f"{self._memory.year.size:,} dossiers each, all of {DAYS} days up to {self._memory.year.until}",
            "others": f"took at most {most:.0%} of a core during a run of wrk" if runs else "no run of wrk",
        }

    @property
    def _pending(self) -> Pending:
        if self._memory.pending is None:
            raise CannotMeasure(f"{self._path} knows of no step under way, though there is one; begin in a new folder.")
        return self._memory.pending

    def _remembered(self) -> FolderMemory:
        """What is known of the folder. Raises CannotMeasure if its parts are of another size."""
        memory = msgspec.json.decode(self._path.read_bytes(), type=FolderMemory)
        if memory.year.size != self._plan.year.size:
            raise CannotMeasure(f"{self._plan.folder} has parts of {memory.year.size:,} dossiers; say --part.")
        return memory

    def _remember(self) -> None:
        fresh = self._path.with_suffix(".unfinished")
        fresh.write_bytes(msgspec.json.encode(self._memory))
        fresh.rename(self._path)

    @contextmanager
    def _house(self, *, pinned: bool = False) -> Iterator[Installation]:
        with running(self._plan.folder, production(), pinned=pinned) as system:
            yield system
