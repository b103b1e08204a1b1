"""A lookup whose wall clock is set by five minutes, forward and back, while it runs.

What the process starts with stands between Python and the system's clock. A clock that is set leaves the monotonic one
alone, and so does this. What is written in C goes on seeing the true time of day, but nothing of that decides how old
anything is. Debian's libfaketime (0.9.10) replaces every clock, but in most runs a lookup under it stood still for ten
seconds. Why is not proven: timed waits of threads on the monotonic clock are known to be wrong under it, and a longer
turn at the interpreter's lock helped once of two times.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

from loadtests.gameday.day import Day, Fault
from loadtests.gameday.expected import Question
from loadtests.gameday.faults.processes import NOTICE_SECONDS
from loadtests.gameday.promises import none_failed, nothing_wrong
from loadtests.system.http_client import Client, request
from loadtests.system.replicas import Replica
from loadtests.verdict import Row

STEP = 300
"""Seconds by which the clock is set, forward and back."""
SET_SECONDS = 30.0
"""Longest it is waited for that the process sees its new time."""
SILENT_SECONDS = 8.0
"""How long nothing is delivered, so that ages have something to grow by."""
EVERY = 0.25
APART = 2.0
"""Seconds by which the ages of two lookups may differ: the header has whole ones, and they are not asked at once."""

SET = """\
import os
import time

LOOK_EVERY = 0.2
_time, _time_ns = time.time, time.time_ns
_file, _looked_at, _off = os.environ["CLOCK_IS_OFF_BY"], float("-inf"), 0


def _is_off():
    global _looked_at, _off
    if time.monotonic() - _looked_at >= LOOK_EVERY:
        with open(_file) as file:
            _off = int(file.read())
        _looked_at = time.monotonic()
    return _off


time.time = lambda: _time() + _is_off()
time.time_ns = lambda: _time_ns() + _is_off() * 10**9
"""
"""The lookup's `sitecustomize`: a file says by how many seconds its clock is off."""


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


async def _set_the_clock(day: Day) -> list[Row]:
    began, ages = time.monotonic(), Ages()
    async with _one_more(day) as (replica, clock):
        for seconds in (STEP, -STEP):
            day.say(f"the clock of one lookup is set by {seconds:+d} s")
            set_to(clock, seconds)
            await day.until(lambda by=seconds: _is_off(replica, by), SET_SECONDS, "the process sees its new time")  # type: ignore[misc]
            # New, so that both have just read it: a copy that does not lean on the feed has the age of its reading.
            code = await day.crowd.submit()
            await day.shown({code: 1}, SET_SECONDS)
            await _compare(day, replica, code, ages, 2 * EVERY)
            with _nothing_delivered(day):
                await _compare(day, replica, code, ages, SILENT_SECONDS)
            await day.visible(SET_SECONDS)
    seen = await day.judged(began)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        Row(
            "its answers",
            f"{len(ages.wrong)} of {len(ages.pairs)} contradict what is expected, {ages.stale} marked stale"
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
async def _one_more(day: Day) -> AsyncIterator[tuple[Replica, Path]]:
    """One more lookup in front, and the file that says how far off its clock is."""
    folder = day.stage.folder / "clock"
    folder.mkdir(exist_ok=True)
    clock = folder / "off-by"
    clock.write_text("0")
    (folder / "sitecustomize.py").write_text(SET)
    environ = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH")))),
        "CLOCK_IS_OFF_BY": str(clock),
    }
    lookups = day.stage.lookups
    replica = await lookups.add(environ)
    try:
        yield replica, clock
    finally:
        await lookups.retire(replica, NOTICE_SECONDS)


def set_to(clock: Path, seconds: int) -> None:
    """A reader of the file finds either what was in it or this."""
    new = clock.with_suffix(".new")
    new.write_text(str(seconds))
    new.replace(clock)


async def _is_off(replica: Replica, seconds: int) -> bool:
    """Whether its answers are dated by about so much off."""
    with Client.of(replica.port) as client:
        answer = await client.ask(request("GET", "/api/v1/statuses", {}))
    return abs(parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time() - seconds) < 30


@contextlib.contextmanager
def _nothing_delivered(day: Day) -> Iterator[None]:
    """Every relay is stopped for as long as the block runs."""
    relays = list(day.stage.relays.replicas)
    for relay in relays:
        relay.freeze()
    try:
        yield
    finally:
        for relay in relays:
            relay.thaw()


async def _compare(day: Day, replica: Replica, code: str, ages: Ages, seconds: float) -> None:
    """Ask both lookups for this dossier, again and again for so long."""
    until = time.monotonic() + seconds
    with Client.of(day.stage.lookups.replicas[0].port) as right, Client.of(replica.port) as off:
        while time.monotonic() < until:
            pair = []
            for client, name in ((off, replica.label), (right, "")):
                asked_at = time.monotonic()
                question = Question("known", code, code)
                answer = await client.ask(request("GET", question.path, {}))
                verdict = day.expected.judge(question, answer, asked_at, time.monotonic(), name)
                if verdict.outcome != "good" and client is off:
                    ages.stale += verdict.outcome == "stale"
                    ages.wrong += [verdict.why] if verdict.outcome != "stale" else []
                pair.append(int(answer.headers.get("age", 0)))
            ages.pairs.append((pair[0], pair[1]))
            await asyncio.sleep(EVERY)


STEPPED = Fault(
    "clock-stepped",
    "the clock of one lookup stepped by ±5 min",
    "no eternal or zero ages",
    _set_the_clock,
)
