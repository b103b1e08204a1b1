"""What happens between the processes and what they depend on: answers late, held up, cut off, or never coming.

Each of it for clients alone: replication, and the Sentinels' own talk, go on.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from loadtests.gameday.day import Day, Fault, NotInTime
from loadtests.gameday.promises import changes_acknowledged, none_failed, none_longer, nothing_wrong, within
from loadtests.gameday.usage import HeldResources, grown, usage
from loadtests.system.wires import Wire
from loadtests.verdict import Row

LASTS = 6.0
"""Seconds that each trouble lasts."""
DELAY = 0.2
EVERY = 0.5
"""Seconds between two times that all connections are reset."""
VISIBLE_SECONDS = 30.0
RECOVERED_SECONDS = 10.0
LONGEST = 3.0
"""Seconds: a lookup gives up after 2.5, and half a second is for the way there and back."""
ALLOWANCE = 12
"""Descriptors, connections and tasks that a process may have more of afterwards: pools open what they need."""
LET_GO_SECONDS = 20.0


@dataclass(frozen=True)
class Trouble:
    """One kind of trouble on one kind of way."""

    title: str
    name: str
    begin: Callable[[Wire], Awaitable[None]]
    again: bool = False
    """Whether it is over at once, and is to be begun again and again."""


TROUBLES = (
    Trouble(f"{DELAY * 1000:g} ms delay", "delay", lambda wire: wire.delay(DELAY)),
    Trouble("stalled", "stall", lambda wire: wire.stall()),
    Trouble("reset", "reset", lambda wire: wire.reset_all(), again=True),
    Trouble("half-open", "half_open", lambda wire: wire.half_open()),
)


def ways(day: Day) -> dict[str, list[Wire]]:
    """What processes depend on, and the wires that lead there, as it stands now."""
    cluster = day.stage.postgres
    return {
        "the primary": [cluster.primary.wire],
        "the standbys": [node.wire for node in cluster.standbys],
        "Redis": [member.wire for member in day.stage.redis.members],
    }


async def _trouble_everywhere(day: Day) -> list[Row]:
    rows: list[Row] = []
    for trouble in TROUBLES:
        for where in ways(day):
            day.say(f"{where}: {trouble.title}")
            rows += await _suffer(day, trouble, where)
    return rows


async def _suffer(day: Day, trouble: Trouble, where: str) -> list[Row]:
    wires = ways(day)[where]
    before, processes = await usage(day), _processes(day)
    began = time.monotonic()
    async with _lasting(trouble, wires):
        await asyncio.sleep(LASTS)
    healed = time.monotonic()
    await day.visible(VISIBLE_SECONDS)
    await day.trusted(VISIBLE_SECONDS)
    recovered = time.monotonic() - healed
    async with day.crowd.changes_held():
        pass  # a change that was begun during the trouble has been answered or given up now
    seen = await day.judged(began, healed)
    known = day.record.window(began, healed, "known", "page", "holder")
    leaks = await _let_go(day, before)
    day.figure("network", f"{trouble.name}_{where.rpartition(' ')[2].lower()}_recovered_s", recovered)
    rows = [
        none_failed(known)._replace(sli="known codes"),
        nothing_wrong(seen),
        none_longer(seen, LONGEST),
        changes_acknowledged(seen),
        within("a change visible everywhere, no breaker open", recovered, RECOVERED_SECONDS),
        Row(
            "nothing held on to", "; ".join(leaks[:3]) or "nothing", f"no more than {ALLOWANCE} of anything", not leaks
        ),
        Row(
            "no restart",
            f"{len(_processes(day) & processes)} of {len(processes)} go on",
            "all",
            _processes(day) == processes,
        ),
    ]
    return [row._replace(sli=f"{where} {trouble.title}: {row.sli}") for row in rows]


@asynccontextmanager
async def _lasting(trouble: Trouble, wires: Sequence[Wire]) -> AsyncIterator[None]:
    """This trouble on these wires for as long as the block runs."""

    async def begin() -> None:
        while True:
            for wire in wires:
                await trouble.begin(wire)
            if not trouble.again:
                return
            await asyncio.sleep(EVERY)

    beginning = asyncio.create_task(begin())
    try:
        yield
    finally:
        beginning.cancel()
        await asyncio.gather(beginning, return_exceptions=True)
        for wire in wires:
            await wire.pass_on()


async def _let_go(day: Day, before: dict[str, HeldResources]) -> list[str]:
    """What every process still holds on to in the end that it did not before."""
    found: list[str] = []

    async def nothing() -> bool:
        found[:] = grown(before, await usage(day), ALLOWANCE)
        return not found

    try:
        await day.until(nothing, LET_GO_SECONDS, "everything is let go of")
    except NotInTime:
        return found
    return []


def _processes(day: Day) -> set[tuple[str, int]]:
    return {(replica.name, replica.pid) for replica in day.replicas if replica.alive}


TROUBLED = Fault(
    "network",
    "network: 200 ms delay, stalls, resets, half-open connections to each dependency",
    "bounded latency, no leak, recovery without restart",
    _trouble_everywhere,
)
