"""What happens to Redis: a primary and a replica, and the Sentinels that watch them."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loadtests.gameday.day import Day, Fault, NotInTime
from loadtests.gameday.promises import changes_acknowledged, none_failed, nothing_wrong, quick, within
from loadtests.system.pauses import pause, resume
from loadtests.system.redis import Group, Member
from loadtests.system.replicas import Deployment
from loadtests.verdict import Row

PROMOTION_SECONDS = 60.0
"""Longest the Sentinels are waited for; that they need fewer is not what is tested here."""
VISIBLE_SECONDS = 30.0
GONE_SECONDS = 20.0
PEAK = 300.0
"""Lookups a second at the peak."""
PEAK_SECONDS = 5.0
"""How long the peak lasts before and after Redis is emptied."""
FULL_SECONDS = 12.0
REFUSED_A_SECOND = 0.1
"""From this many refused calls a second on RedisRefuses fires (k8s/components/monitoring/alerts.toml)."""
TAKEN = 5
"""Changes the old primary takes that its replica does not hear of."""
SAMPLE_SECONDS = 0.02

# What lookups have open, and what they have under way: without the question who is primary, which they ask each host
# once a second.
UNDER_WAY = """
SELECT count(*)                                                             AS connections,
       count(*) FILTER (WHERE state = 'active' AND query LIKE '%dossier%')  AS queries
  FROM pg_stat_activity
 WHERE usename = 'hoso24_reader'
"""


class Delivered(NamedTuple):
    """One change as the stream has it."""

    id: str
    prev: str
    code: str
    version: int


# -- looking at the stream ------------------------------------------------------------------------------------------


async def stream(group: Group, member: Member, after: str = "-") -> list[Delivered]:
    """The stream's entries behind that one, heartbeats too: they have no code and version 0."""
    epoch = _text(await group.call(member, "GET", "epoch:v1"))
    start = after if after == "-" else f"({after}"
    entries = await group.call(member, "XRANGE", f"changes:v1:{epoch}", start, "+")
    found = []
    for entry, fields in entries:
        named = {_text(name): _text(value) for name, value in fields.items()}
        found.append(Delivered(_text(entry), named["prev"], named.get("code", ""), int(named.get("version", 0))))
    return found


async def stream_end(group: Group, member: Member) -> str:
    """The id of the stream's last entry."""
    epoch = _text(await group.call(member, "GET", "epoch:v1"))
    last = await group.call(member, "XREVRANGE", f"changes:v1:{epoch}", "+", "-", "COUNT", 1)
    return _text(last[0][0])


def out_of_order(entries: Sequence[Delivered], *, newest_only: bool = False) -> list[str]:
    """What is wrong with a stretch of the stream: an entry missing or twice, a dossier's versions not one by one.

    `newest_only`: Redis lost entries within it, so versions may be left out that a later one of the dossier follows.
    """
    found, last, versions = [], "", dict[str, int]()
    for entry in entries:
        if last and entry.prev != last:
            found.append(f"{entry.id} says that it comes after {entry.prev}, and comes after {last}")
        last = entry.id
        before = versions.get(entry.code, entry.version - 1)
        if entry.code and (entry.version <= before if newest_only else entry.version != before + 1):
            found.append(f"{entry.code}: version {entry.version} comes after {before}")
        versions[entry.code] = entry.version
    return found


def _text(word: Any) -> str:
    return word.decode() if isinstance(word, bytes) else str(word)


# -- failing over ---------------------------------------------------------------------------------------------------


async def another_primary(day: Day, old: Member) -> Member:
    """Whom the Sentinels name once it is not the old one any more. Raises NotInTime."""

    async def named() -> Member | None:
        member = await day.stage.redis.named()
        return None if member is old else member

    return await day.until(named, PROMOTION_SECONDS, "the Sentinels name another primary")


async def _kill_the_primary(day: Day) -> list[Row]:
    group = day.stage.redis
    old = await group.primary()
    began = time.monotonic()
    await asyncio.to_thread(old.kill)
    day.say("the Sentinels have to notice")
    await another_primary(day, old)
    promoted = time.monotonic()
    day.say("a change has to be visible again")
    await day.visible(VISIBLE_SECONDS)
    fresh = time.monotonic()
    await asyncio.to_thread(old.restart)
    await group.in_step()
    seen = await day.judged(began)
    day.figure("redis-killed", "promoted_s", promoted - began)
    day.figure("redis-killed", "fresh_s", fresh - began)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        changes_acknowledged(seen),
        within(
            f"a change visible everywhere, after a promotion that took {promoted - began:.1f} s", fresh - promoted, 5
        ),
    ]


async def _wake_the_old_primary(day: Day) -> list[Row]:
    group = day.stage.redis
    old = await group.primary()
    replica = next(member for member in group.members if member is not old)
    began = time.monotonic()
    taken = await _take_alone(day, old, replica)
    day.say("the Sentinels have to notice")
    new = await another_primary(day, old)
    promoted = time.monotonic()
    day.say("what the old primary took has to be delivered again")
    again = await _delivered_again(day, new, taken)
    await asyncio.to_thread(resume, old)
    day.say("the old primary has to follow the new one")
    await group.in_step()
    await day.visible(VISIBLE_SECONDS)
    wrong = out_of_order(await stream(group, new), newest_only=True)
    seen = await day.judged(began)
    day.figure("redis-woken", "promoted_s", promoted - began)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        Row(
            "delivered again",
            f"{again} of {len(taken)} changes that only the old primary had taken, or a newer one",
            f"all, and {TAKEN} at the least",
            kept=again == len(taken) >= TAKEN,
        ),
        Row(
            "order",
            "; ".join((wrong := out_of_order(await stream(group, new), newest_only=True))[:2])
            or "nothing missing, nothing twice",
            "of versions and entries as in the log",
            kept=not wrong,
        ),
    ]


async def _take_alone(day: Day, primary: Member, replica: Member) -> list[Delivered]:
    """Some changes that the primary takes and its replica never hears of; the primary is stopped when it has them."""
    group = day.stage.redis
    await asyncio.to_thread(pause, replica)
    try:
        await group.call(primary, "CLIENT", "KILL", "TYPE", "replica")  # it cannot come back: it is stopped
        end = await stream_end(group, primary)

        async def enough() -> list[Delivered]:
            taken = [entry for entry in await stream(group, primary, end) if entry.code]
            return taken if len(taken) >= TAKEN else []

        day.say("the primary takes changes alone")
        taken = await day.until(enough, VISIBLE_SECONDS, f"{TAKEN} changes are delivered")
        await asyncio.to_thread(pause, primary)
    finally:
        await asyncio.to_thread(resume, replica)
    return taken


async def _delivered_again(day: Day, new: Member, taken: Sequence[Delivered]) -> int:
    """How many of them the new primary has, or a newer version of their dossier."""

    async def found() -> int:
        there: dict[str, int] = {}
        for entry in await stream(day.stage.redis, new):
            there[entry.code] = max(entry.version, there.get(entry.code, 0))
        return sum(there.get(entry.code, 0) >= entry.version for entry in taken)

    async def all_found() -> bool:
        return await found() == len(taken)

    with contextlib.suppress(NotInTime):
        await day.until(all_found, VISIBLE_SECONDS, "delivered again")
    return await found()


# -- out of work ----------------------------------------------------------------------------------------------------


async def _stop_all(day: Day) -> list[Row]:
    members = day.stage.redis.members
    began = time.monotonic()
    for member in members:  # else the Sentinels would promote the other, and Redis would not be away
        await asyncio.to_thread(pause, member)
    try:
        day.say(f"Redis is stopped for {GONE_SECONDS:g} s")
        await asyncio.sleep(GONE_SECONDS)
    finally:
        for member in members:
            await asyncio.to_thread(resume, member)
    healed = time.monotonic()
    seen = await day.judged(began, healed)
    fresh = await day.visible(VISIBLE_SECONDS)
    day.figure("redis-stopped", "fresh_s", time.monotonic() - healed)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        quick(seen, 0.99, 0.25),
        changes_acknowledged(seen),
        within("a change visible everywhere afterwards", fresh, 5),
    ]


# -- emptied --------------------------------------------------------------------------------------------------------


@dataclass
class PostgresLoad:
    """The most queries that lookups were seen to have under way in all Postgres servers together, and the most
    connections to one of them.
    """

    queries: int = 0
    connections: int = 0
    looked: int = 0
    ways: list[Any] = field(default_factory=list)

    async def watch(self) -> None:
        """Look again and again, for as long as this runs."""
        while True:
            found = await asyncio.gather(*(way.fetchrow(UNDER_WAY) for way in self.ways))
            self.queries = max(self.queries, sum(row["queries"] for row in found))
            self.connections = max(self.connections, *(row["connections"] for row in found))
            self.looked += 1
            await asyncio.sleep(SAMPLE_SECONDS)


@contextlib.asynccontextmanager
async def _watched_load(day: Day) -> AsyncIterator[PostgresLoad]:
    load, cluster = PostgresLoad(), day.stage.postgres
    async with contextlib.AsyncExitStack() as stack:
        for node in cluster.nodes:
            load.ways.append(await stack.enter_async_context(cluster.connected(node=node)))
        watching = asyncio.create_task(load.watch())
        try:
            yield load
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def _empty(day: Day) -> list[Row]:
    group, usual = day.stage.redis, day.crowd.pace.rate
    primary = await group.primary()
    day.crowd.pace.rate = max(usual, PEAK)
    try:
        day.say("the peak begins")
        await asyncio.sleep(PEAK_SECONDS)
        began, asked_before = time.monotonic(), await asked_of_postgres(day)
        async with _watched_load(day) as load:
            await group.call(primary, "FLUSHALL")
            day.say("Redis is empty")
            await asyncio.sleep(PEAK_SECONDS)
            fresh = await day.visible(VISIBLE_SECONDS)
        seen = await day.judged(began)
        asked = await asked_of_postgres(day) - asked_before
    finally:
        day.crowd.pace.rate = usual
    bound = queries(day.stage.lookups) * len(day.stage.lookups.replicas)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        Row(
            "Postgres",
            f"asked {asked:.0f} times; at most {load.queries} queries of lookups under way, and {load.connections} of "
            f"their connections to a server, looked at {load.looked} times",
            f"asked, and at most {bound} of either: {queries(day.stage.lookups)} a process",
            kept=asked > 0 and load.looked > 0 and load.queries <= bound and load.connections <= bound,
        ),
        within("a change visible everywhere afterwards", fresh, 5),
    ]


async def asked_of_postgres(day: Day) -> float:
    """Round trips that the lookups have made to Postgres so far."""
    lookups = day.stage.lookups.replicas
    return sum(
        [await day.metric(each, "lookup_batch_size_count", dependency=("postgres", "primary")) for each in lookups]
    )


def queries(lookups: Deployment) -> int:
    """How many queries a lookup has under way at the most, as it was told or by itself."""
    return int(lookups.environ.get("HOSO24_PG_READER_QUERIES", "4"))


# -- full -----------------------------------------------------------------------------------------------------------


async def refusals(day: Day) -> float:
    """Calls that Redis has refused all lookups and relays so far."""
    processes = [*day.stage.lookups.replicas, *day.stage.relays.replicas]
    name, ways = "hoso24_dependency_unavailable_total", ("redis", "redis-feed")
    return sum([await day.metric(each, name, dependency=ways, reason="Refused") for each in processes])


async def _fill_up(day: Day) -> list[Row]:
    group = day.stage.redis
    primary = await group.primary()
    names = ("maxmemory", "maxmemory-policy")
    before = [_text((await group.call(primary, "CONFIG", "GET", name))[1]) for name in names]
    refused_before = await refusals(day)
    began = time.monotonic()
    await group.call(primary, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    await group.call(primary, "CONFIG", "SET", "maxmemory", "1mb")
    try:
        day.say("Redis is full")
        await asyncio.sleep(FULL_SECONDS)
        refused = await refusals(day) - refused_before
    finally:
        for name, value in zip(names, before, strict=True):
            await group.call(primary, "CONFIG", "SET", name, value)
    healed = time.monotonic()
    seen = await day.judged(began, healed)
    fresh = await day.visible(VISIBLE_SECONDS)
    rate = refused / (healed - began)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        Row(
            "visible",
            f"{rate:.1f} calls a second counted as refused",
            f"more than {REFUSED_A_SECOND:g}, so that RedisRefuses fires",
            kept=rate > REFUSED_A_SECOND,
        ),
        within("a change visible everywhere afterwards", fresh, 5),
    ]


KILLED = Fault(
    "redis-killed",
    "kill -9 of Redis's primary",
    "0 failed lookups, no older version served unmarked, freshness back within 5 s of promotion",
    _kill_the_primary,
    short=True,
)
WOKEN = Fault(
    "redis-woken",
    "Redis's primary stopped, the replica promoted, the old primary woken",
    "what it took meanwhile is delivered again, or a newer version; no older version served unmarked",
    _wake_the_old_primary,
)
STOPPED = Fault("redis-stopped", "SIGSTOP of Redis for 20 s", "0 failed lookups, p99 < 250 ms", _stop_all, short=True)
EMPTIED = Fault(
    "redis-emptied",
    "FLUSHALL of Redis at peak",
    "0 failed lookups, queries under way in Postgres ≤ K per process",
    _empty,
    short=True,
)
FULL = Fault("redis-full", "Redis full, noeviction", "lookups unharmed, the condition of the alert visible", _fill_up)
