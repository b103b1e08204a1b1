"""A lookup whose wall clock is set by five minutes, forward and back, while it runs.

libfaketime, of Debian's package `faketime`, stands between the process and the system's clock. A clock that is set
leaves the monotonic one alone, and so does this.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

from loadtests.gameday.books import Question
from loadtests.gameday.day import Day, Fault, Skipped
from loadtests.gameday.promises import nobody_failed, nothing_wrong
from loadtests.rolling.replicas import Replica
from loadtests.rolling.wire import Client, Rotation, request
from loadtests.verdict import Row

STEP = 300
"""Seconds by which the clock is set, forward and back."""
SET_SECONDS = 30.0
"""Longest it is waited for that the process sees its new time."""
SILENT_SECONDS = 8.0
"""How long nobody delivers, so that ages have something to grow by."""
EVERY = 0.25
APART = 2.0
"""Seconds by which the ages of two lookups may differ: the header has whole ones, and they are not asked at once."""

SLEEP = """\
import select
import sys
import time

sys.setswitchinterval(1000)
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""
"""Around two things that libfaketime 0.9.10 does.

Python sleeps until an absolute moment of the monotonic clock, which it refuses (EINVAL). And a thread that wants the
interpreter waits for it 5 ms at a time, which it ends too early, over and over: the other threads get to do nothing
else, the more so while the clock is off. With a long turn they wait until whoever has the interpreter lets go of it.
"""


@dataclass
class Ages:
    """What two lookups said of the same dossier at nearly the same moment: the age with the set clock, and without."""

    pairs: list[tuple[int, int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stale: int = 0

    @property
    def apart(self) -> int:
        return max((abs(one - other) for one, other in self.pairs), default=0)

    @property
    def oldest(self) -> int:
        return max((one for one, _ in self.pairs), default=0)


def library() -> Path:
    """libfaketime, as it is for processes with several threads. Raises Skipped where it is not installed."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise Skipped("libfaketime is not installed (Debian: apt-get install faketime)")
    return found[0]


async def _set_the_clock(day: Day) -> list[Row]:
    began, ages = time.monotonic(), Ages()
    async with _one_more(day, library()) as (replica, clock):
        for seconds in (STEP, -STEP):
            day.say(f"the clock of one lookup is set by {seconds:+d} s")
            clock.write_text(f"{seconds:+d}\n")
            await day.until(lambda by=seconds: _is_off(replica, by), SET_SECONDS, "the process sees its new time")  # type: ignore[misc]
            await _compare(day, replica, ages, 2 * EVERY)
            with _nobody_delivers(day):
                await _compare(day, replica, ages, SILENT_SECONDS)
            await day.visible(SET_SECONDS)
    seen = await day.judged(began)
    return [
        nobody_failed(seen),
        nothing_wrong(seen),
        Row(
            "its answers",
            f"{len(ages.wrong)} of {len(ages.pairs)} contradict the books, {ages.stale} marked stale"
            + "".join(f"; {why}" for why in ages.wrong[:2]),
            "0 and 0",
            kept=bool(ages.pairs) and not ages.wrong and not ages.stale,
        ),
        Row(
            "its ages",
            f"from 0 to {ages.oldest} s, at most {ages.apart} s from those of a lookup whose clock is right",
            f"within {APART:g} s of them, and not for ever 0",
            kept=ages.oldest > 0 and ages.apart <= APART,
        ),
    ]


@contextlib.asynccontextmanager
async def _one_more(day: Day, faketime: Path) -> AsyncIterator[tuple[Replica, Path]]:
    """One more lookup in front, and the file that says how far off its clock is."""
    folder = day.stage.folder / "faketime"
    folder.mkdir(exist_ok=True)
    clock = folder / "offset"
    clock.write_text("+0\n")
    (folder / "sitecustomize.py").write_text(SLEEP)
    environ = {
        "LD_PRELOAD": str(faketime),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    lookups = day.stage.lookups
    replica = await lookups.add(environ)
    try:
        yield replica, clock
    finally:
        # Not in good order: threads wait for each other in libfaketime, on a busy machine for many seconds at a time.
        replica.kill()
        await lookups.remove(replica)


async def _is_off(replica: Replica, seconds: int) -> bool:
    """Whether its answers are dated by about so much off."""
    client = Client(Rotation([replica.port]))
    try:
        answer = await client.ask(request("GET", "/api/v1/statuses", {}))
    finally:
        client.hang_up()
    return abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time() - seconds) < 30


@contextlib.contextmanager
def _nobody_delivers(day: Day) -> Iterator[None]:
    """Every relay is stopped for as long as the block runs."""
    relays = list(day.stage.relays.replicas)
    for relay in relays:
        relay.freeze()
    try:
        yield
    finally:
        for relay in relays:
            relay.thaw()


async def _compare(day: Day, replica: Replica, ages: Ages, seconds: float) -> None:
    """Ask both lookups for one dossier, again and again for so long."""
    code = day.books.codes()[0]
    right = Client(Rotation([day.stage.lookups.replicas[0].port]))
    off = Client(Rotation([replica.port]))
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            pair = []
            for client, name in ((off, replica.label), (right, "")):
                asked_at = time.monotonic()
                question = Question("known", code, code)
                answer = await client.ask(request("GET", question.path, {}))
                verdict = day.books.judge(question, answer, asked_at, time.monotonic(), name)
                if verdict.outcome != "good" and client is off:
                    ages.stale += verdict.outcome == "stale"
                    ages.wrong += [verdict.why] if verdict.outcome != "stale" else []
                pair.append(int(answer.headers.get("age", 0)))
            ages.pairs.append((pair[0], pair[1]))
            await asyncio.sleep(EVERY)
    finally:
        right.hang_up()
        off.hang_up()


STEPPED = Fault(
    "clock-stepped",
    "the clock of one lookup stepped by ±5 min",
    "no eternal or zero ages",
    _set_the_clock,
)

FAULTS = (STEPPED,)
