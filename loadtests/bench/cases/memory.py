"""Two hundred thousand dossiers in process memory: what they really take, beside what the service says they take.

Ours only. What it says is what its bound is compared with (HOSO24_MEMORY_BYTES), and is an estimate of its own.
"""

import re
import time
from dataclasses import dataclass

from loadtests.bench.load import WrkLoad
from loadtests.bench.resident import MEGABYTE, resident
from loadtests.bench.rig import CaseOutcome, Judged, Rig, Run, Series
from loadtests.bench.servers import OURS, BenchServer, ours
from loadtests.system.http_client import fetch
from loadtests.system.processes import POLL_SECONDS, CannotMeasure

TITLE = "200,000 dossiers in process memory, each asked for twice: resident memory before, between and after"

ENTRIES = 200_000
ENOUGH = {"HOSO24_MEMORY_BYTES": str(1 << 30)}
CONNECTIONS = 64
MOST_MEGABYTES = 250
TOLD_SECONDS = 5.0
"""The gauges are set once a second."""


@dataclass(frozen=True)
class Level:
    """At one moment: bytes resident, and what the service says of its copies."""

    resident: int
    copies: int
    bytes: int


def seconds(rig: Rig) -> float:
    return min(ENTRIES, rig.dossiers) * (1 / 6000 + 1 / 15_000) + 15


def measure(rig: Rig) -> CaseOutcome:
    rig.system.empty_redis()
    codes = range(min(ENTRIES, rig.dossiers))
    once = WrkLoad("once", codes, CONNECTIONS, seconds=len(codes) / 500)
    with ours(rig.system, **ENOUGH).start() as server:
        rig.put(server, rig.warming(WrkLoad("constant", codes[:1], CONNECTIONS, rig.seconds)))
        empty = _level(server, copies=1)
        first = rig.measure(server, once)
        held = _level(server, copies=len(codes))
        second = rig.measure(server, once.turn(2))
        rendered = _level(server, copies=len(codes))
    judged = judge(empty, held, rendered)
    rig.say(f"memory: {'; '.join(f'{each.what}: {each.figure}' for each in judged)}")
    return CaseOutcome([_series("each once", first), _series("each once more", second)], judged)


def _series(what: str, run: Run) -> Series:
    return Series("memory", f"{OURS}, {what}", CONNECTIONS, [run])


def _level(server: BenchServer, copies: int) -> Level:
    """The level once the service says that it has so many copies. Raises CannotMeasure when it does not say so."""
    time.sleep(TOLD_SECONDS / 2)  # what it said before may have been said before the last answers
    deadline = time.monotonic() + TOLD_SECONDS
    while True:
        text = fetch(f"{server.admin}/metrics").body.decode()
        level = Level(resident(server.pid), gauge(text, "lookup_memory_copies"), gauge(text, "lookup_memory_bytes"))
        if level.copies == copies:
            return level
        if time.monotonic() > deadline:
            raise CannotMeasure(f"The lookup has {level.copies:,} dossiers in memory, and should have {copies:,}.")
        time.sleep(POLL_SECONDS)


def gauge(text: str, name: str) -> int:
    """A gauge out of the metrics' text; -1 when it is not there."""
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return int(float(found[1])) if found else -1


def judge(empty: Level, held: Level, rendered: Level) -> list[Judged]:
    """Whether that is little enough, and whether what the service says of it is true."""
    judged = []
    for level, what in ((held, "each asked for once"), (rendered, "each asked for twice")):
        judged += [
            Judged(
                "memory",
                f"resident with {level.copies:,} dossiers, {what}; {empty.resident / MEGABYTE:.0f} MB before",
                f"{level.resident / MEGABYTE:.0f} MB",
                f"below {MOST_MEGABYTES} MB" if level.copies >= ENTRIES else "",
                level.resident < MOST_MEGABYTES * MEGABYTE if level.copies >= ENTRIES else None,
            ),
            _honesty(empty, level, what),
        ]
    return judged


def _honesty(empty: Level, level: Level, what: str) -> Judged:
    copies = level.copies - empty.copies
    taken, told = (level.resident - empty.resident) / copies, (level.bytes - empty.bytes) / copies
    return Judged(
        "memory",
        f"bytes a dossier, {what}: resident ÷ as the service counts",
        f"{taken:.0f} ÷ {told:.0f} = {taken / told:.2f}",
    )
