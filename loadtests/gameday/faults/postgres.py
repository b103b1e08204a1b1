"""What can happen to Postgres: killed, behind, unconfirmed, gone, and gone together with Redis.

What was acknowledged is asked of the log of the primary afterwards; what citizens got, of the record.
Without a primary no process can say "no such dossier", nor answer `at_least` with a version that memory and Redis have
not got: these are answered 503 for as long as there is none, and are counted apart.
"""

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import asyncpg

from loadtests.answers import SOFT_AGE, Answer
from loadtests.gameday.day import Day, Fault, Timed
from loadtests.gameday.promises import changes_acknowledged, none_failed, nothing_wrong
from loadtests.gameday.record import LOOKUPS, Seen
from loadtests.system.http_client import Client, NoAnswer, request
from loadtests.system.pauses import pause, resume
from loadtests.system.postgres import Node
from loadtests.system.replicas import Faulty, Replica
from loadtests.target import submission
from loadtests.verdict import Row

KNOWN = ("known", "changing", "page", "holder")
"""Lookups that can be answered out of memory, Redis or a standby."""
ONLY_THE_PRIMARY = ("unknown", "at_least")
"""Lookups whose answer may need the primary: that there is none, and a version that nothing else has."""

NEGATIVE_AGE = 5.0
"""For how long "no such dossier" may be repeated, in seconds."""
LAG = 30.0
LOOKS_ON = 12.0
"""How long it is looked on while a fault lasts, in seconds."""
GONE = 60.0
BOTH_GONE = 30.0
WITHIN = 0.1
"""Longest that a 503 may take while nothing can be asked, in seconds."""
FINDS_OUT = 3.0
"""How long a lookup may take to find out who is the primary now, in seconds: it asks each host once a second."""
UNTIL_HEALED = 60.0
"""Longest anything here is waited for once its cause is gone, in seconds."""
LONGEST_CHANGE = 10.0
"""When an intake gives up a transaction of its own that does not end, in seconds; the caller was answered before."""
NOT_FOUND = "dossier_not_found"
BATCH = 100
"""Dossiers in one batch of lookups at the most."""
PAUSE = 0.25
"""Seconds between two repeats of a submission."""
MORE_SUBMISSIONS = 8
"""Others whose outcome is unknown, beside those of the desks: the alert wants more than ten within its window."""

LAG_OF_STANDBY = "SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM hoso24.heartbeat"
EVENTS_OF_KEY = "SELECT count(*) FROM hoso24.event WHERE source_event_id = $1"


# -- what was seen ----------------------------------------------------------------------------------------------


def of_kinds(day: Day, began: float, ended: float, *kinds: str) -> Iterator[Seen]:
    """What was asked within these moments, of these kinds."""
    return (seen for seen in day.record.between(began, ended) if seen.kind in kinds)


def left_to_the_primary(day: Day, began: float, ended: float, gone: float, back: float) -> Row:
    """That what needs a primary is answered 503 only while there is none, from `gone` to `back`, and never wrongly."""
    asked = list(of_kinds(day, began, ended, *ONLY_THE_PRIMARY))
    refused = [seen for seen in asked if seen.outcome == "unavailable"]
    outside = [seen for seen in refused if not gone - 1 <= seen.at <= back + FINDS_OUT]
    wrong = sum(seen.outcome == "wrong" for seen in asked)
    last = max((seen.answered_at - gone for seen in refused), default=0.0)
    return Row(
        "unknown codes, at_least",
        f"{len(refused)} of {len(asked):,} answered 503, the last {last:.1f} s after the primary had gone "
        f"({back - gone:.1f} s without one), {len(outside)} while there was one; {wrong} wrong",
        "503 only while there is no primary, never wrong",
        kept=bool(asked) and not outside and wrong == 0,
    )


async def changes_kept(day: Day) -> Row:
    """That the log of the present primary holds every acknowledged change, and once."""
    async with day.stage.postgres.connected("owner") as connection:
        lost = await day.expected.lost(connection)
    acknowledged = sum(day.expected.acknowledged().values())
    named = f": {'; '.join(lost[:3])}" if lost else ""
    return Row(
        "acknowledged changes",
        f"{len(lost)} of {acknowledged:,} so far lost or held twice{named}",
        "0",
        kept=acknowledged > 0 and not lost,
    )


def first_acknowledged(day: Day, after: float) -> float | None:
    """When the first change was acknowledged after this moment (monotonic seconds)."""
    return min(day.record.acknowledged(after, time.monotonic()), default=None)


async def restarted(node: Node) -> None:
    """The server again on its data, as an operator would start it. Raises CannotStart."""
    await asyncio.to_thread(node.server.restart)


@dataclass(frozen=True)
class Recovery:
    """Moments of a recovery from `moment` on: the first write, and when a change was visible everywhere."""

    since: str
    """What happened at that moment."""
    moment: float
    write: float
    fresh: float
    promoted: float | None = None
    """When another server became the primary, if that was necessary."""


async def healed(day: Day, fault: Fault, began: float, recovery: Recovery) -> list[Row]:
    """What is promised of answers and changes from `began` on. How long the recovery took is told, and not judged."""
    names = {"first_write": recovery.write, "fresh": recovery.fresh, "promoted": recovery.promoted}
    took = {name: at - recovery.moment for name, at in names.items() if at is not None}
    for name, seconds in took.items():
        day.figure(fault.name, f"{name}_s", seconds)
    promotion = f"promoted after {took['promoted']:.1f} s, " if "promoted" in took else ""
    told = Row(
        "recovery",
        f"from {recovery.since} on: {promotion}first write after {took['first_write']:.1f} s, a change made then "
        f"visible in every lookup after {took['fresh']:.1f} s",
        "told",
        kept=recovery.moment < recovery.write <= recovery.fresh,
    )
    seen = day.record.window(began)
    return [nothing_wrong(seen), await changes_kept(day), changes_acknowledged(seen), told]


async def follows_again(day: Day, old: Node) -> None:
    """The old primary becomes a standby of the new one."""
    day.say("the old primary becomes a standby")
    await day.stage.postgres.rejoin(old)
    await day.stage.postgres.in_step()
    await day.crowd.answered(time.monotonic())


# -- kill -9 of the primary -------------------------------------------------------------------------------------


async def kill_primary(day: Day) -> list[Row]:
    """The standby that has received more is promoted at once; an operator's time to notice comes on top."""
    cluster = day.stage.postgres
    old, began = cluster.primary, time.monotonic()
    await asyncio.to_thread(old.server.kill)
    killed = time.monotonic()
    day.say("promoting the standby that has received more")
    await cluster.promote()
    promoted = time.monotonic()
    day.say("waiting for a change made now to be visible")
    await day.visible(UNTIL_HEALED)
    fresh = time.monotonic()
    await follows_again(day, old)
    write = first_acknowledged(day, promoted) or fresh
    return [
        none_failed(day.record.window(began, None, *KNOWN)),
        left_to_the_primary(day, began, time.monotonic(), killed, promoted),
        *await healed(day, PRIMARY_KILLED, began, Recovery("the kill", killed, write, fresh, promoted)),
    ]


# -- standbys that lag ------------------------------------------------------------------------------------------


async def lagging(day: Day) -> list[Row]:
    """Both standbys fall 30 s behind in what they show, while they go on confirming what they receive."""
    cluster = day.stage.postgres
    standbys = list(cluster.standbys)
    began = time.monotonic()
    for node in standbys:
        await cluster.delay(node, LAG)
    try:
        day.say(f"waiting for the standbys to be {LAG:g} s behind")
        lags = [await _until_behind(day, node) for node in standbys]
        day.say(f"looking on for {LOOKS_ON:g} s")
        await asyncio.sleep(LOOKS_ON)  # this is the fault: for so long they stay behind
    finally:
        await asyncio.gather(*(_caught_up(day, node) for node in standbys))
    ended = time.monotonic()
    await cluster.in_step()
    await day.crowd.answered(time.monotonic())
    day.figure(STANDBY_LAGS.name, "lag_s", min(lags))
    day.figure(STANDBY_LAGS.name, "in_step_s", time.monotonic() - ended)
    unmarked = [seen.age or 0.0 for seen in of_kinds(day, began, ended, *LOOKUPS) if seen.outcome == "good"]
    exact = day.record.window(began, ended, "at_least")
    return [
        Row("lag", f"{min(lags):.0f} s, by the standbys' heartbeats", f"{LAG:g} s", kept=min(lags) >= LAG - 1),
        none_failed(day.record.window(began, ended, *KNOWN, "unknown")),
        nothing_wrong(day.record.window(began, ended)),
        Row(
            "age",
            f"oldest unmarked answer {max(unmarked, default=0.0):.1f} s",
            f"at most {SOFT_AGE:g} s",
            kept=max(unmarked, default=0.0) <= SOFT_AGE,
        ),
        Row(
            "at_least",
            f"{exact.failed} of {exact.total} answered by less, or not at all",
            "0",
            kept=exact.total > exact.failed == 0,
        ),
        await changes_kept(day),
    ]


async def _caught_up(day: Day, node: Node) -> None:
    """Let it replay at once. Its recovery, being late, cancels whatever is in its way, and may be told twice."""

    async def told() -> bool:
        with contextlib.suppress(asyncpg.SerializationError):
            await day.stage.postgres.delay(node, 0)
            return True
        return False

    await day.until(told, UNTIL_HEALED, f"{node.name} is told to replay at once")


async def _until_behind(day: Day, node: Node) -> float:
    """Its lag in seconds, once it is as large as it was asked to be."""

    async def lag() -> float:
        with contextlib.suppress(asyncpg.SerializationError):
            behind = float(await day.stage.postgres.ask(LAG_OF_STANDBY, node=node))
            return behind if behind >= LAG - 1 else 0.0
        return 0.0

    return await day.until(lag, LAG + UNTIL_HEALED, f"{node.name} is {LAG:g} s behind")


# -- unconfirmed --------------------------------------------------------------------------------------------


class RepeatedSubmission:
    """One submission and its repeats, under one key, over one connection at a time; it is among what is expected."""

    def __init__(self, day: Day) -> None:
        self.key = f"gameday-{uuid.uuid4()}"
        self.statuses: list[int] = []
        self._expected = day.expected
        self._change = day.expected.submit(self.key)
        self._client = Client(day.stage.front.intake)
        headers = {"Authorization": f"Bearer {day.stage.token}", "Idempotency-Key": self.key}
        self._request = request("POST", "/api/v1/dossiers", headers, json.dumps(submission()).encode())

    async def send(self) -> Answer:
        """Once; status 0 for no answer."""
        try:
            answer = await self._client.ask(self._request)
        except NoAnswer:
            answer = Answer(0, {})
        self.statuses.append(answer.status)
        if answer.status == 201 and not self._change.code:
            self._expected.acknowledge(self._change, answer.json())
        return answer

    async def until_acknowledged(self, within: float) -> Answer:
        """Repeated until it is. Raises TimeoutError after so many seconds."""
        async with asyncio.timeout(within):
            while (answer := await self.send()).status != 201:  # noqa: ASYNC110 - it is a server's to end
                await asyncio.sleep(PAUSE)
        return answer

    def hang_up(self) -> None:
        """Close the connection."""
        self._client.hang_up()


async def unconfirmed(day: Day) -> list[Row]:
    """The standbys are stopped, so nothing is confirmed; a submission times out and is repeated; the primary is killed
    before a standby could confirm it, and only then do the standbys go on.
    """
    cluster = day.stage.postgres
    old, standbys = cluster.primary, list(cluster.standbys)
    handed_in = RepeatedSubmission(day)
    async with day.crowd.changes_held():
        await warm(day)  # from the kill until the standbys are found again there is nothing to read from
    began = time.monotonic()
    try:
        for node in standbys:
            await asyncio.to_thread(pause, node.server)
        stopped = time.monotonic()
        day.say("a submission that no standby confirms, and its repeats")
        others = [asyncio.create_task(day.crowd.submit()) for _ in range(MORE_SUBMISSIONS)]
        await handed_in.send()
        # Longer than an intake keeps a transaction of its own: what it then does must not make it visible.
        while time.monotonic() < stopped + LONGEST_CHANGE + LOOKS_ON:
            await handed_in.send()
            await asyncio.sleep(PAUSE)
        early, visible = list(handed_in.statuses), await _events(day, old, handed_in.key)
        day.say("the primary is killed")
        await asyncio.to_thread(old.server.kill)
    finally:
        for node in standbys:
            await asyncio.to_thread(resume, node.server)
    killed = time.monotonic()
    await cluster.promote()
    promoted = time.monotonic()
    day.say("the submission is repeated until it is acknowledged")
    answer = await handed_in.until_acknowledged(UNTIL_HEALED)
    write = time.monotonic()
    repeat = await handed_in.send()
    handed_in.hang_up()
    code = answer.json()["code"]
    await day.shown({code: 1}, UNTIL_HEALED)
    fresh = time.monotonic()
    held = await _events(day, cluster.primary, handed_in.key)
    await asyncio.gather(*others)
    await follows_again(day, old)
    return [
        Row(
            "unconfirmed",
            f"first answered {early[0]}, {len(early) - 1} repeats; {early.count(201)} acknowledged, {visible} visible",
            "503, and neither acknowledged nor visible",
            kept=early[0] == 503 and 201 not in early and visible == 0,
        ),
        Row(
            "in the end",
            f"acknowledged {write - killed:.1f} s after the kill, {held} time(s) in the log; its repeat "
            f"{'as the first answer' if repeat.body == answer.body else f'another answer ({repeat.status})'}",
            "once, and the same answer again",
            kept=held == 1 and repeat.body == answer.body,
        ),
        none_failed(day.record.window(began, None, *KNOWN)),
        left_to_the_primary(day, began, time.monotonic(), killed, promoted),
        *await healed(day, UNCONFIRMED, began, Recovery("the kill", killed, write, fresh, promoted)),
    ]


async def _events(day: Day, node: Node, key: str) -> int:
    """How many events of that key are visible there."""
    return int(await day.stage.postgres.ask(EVENTS_OF_KEY, key, node=node))


# -- everything gone --------------------------------------------------------------------------------------------


async def warm(day: Day) -> None:
    """Each lookup is asked for every dossier once, so that it holds them in memory.

    Changes should be held meanwhile, or there is more to hold afterwards.
    """
    day.say("every lookup is asked for every dossier")
    codes = day.crowd.codes()
    await asyncio.gather(*(_read(replica, codes) for replica in day.stage.lookups.replicas))


async def _read(replica: Replica, codes: Sequence[str]) -> None:
    """Until it has answered for each of these: batches go first when there is too much to do."""
    waiting = list(codes)
    try:
        with Client.of(replica.port) as client:
            async with asyncio.timeout(UNTIL_HEALED):
                while waiting:
                    some, waiting = waiting[:BATCH], waiting[BATCH:]
                    unread = await _unread(client, some)
                    waiting += unread
                    await asyncio.sleep(PAUSE if unread else 0)
    except TimeoutError:
        raise Faulty(f"{replica.name} did not answer for {len(waiting)} dossiers in {UNTIL_HEALED:g} s") from None


def batch(codes: Sequence[str]) -> bytes:
    """A request for all of these dossiers."""
    return request("POST", "/api/v1/lookups", {}, json.dumps({"dossiers": [{"code": code} for code in codes]}).encode())


async def _unread(client: Client, codes: Sequence[str]) -> list[str]:
    """Which of these it had no answer for."""
    answer = await client.ask(batch(codes))
    if answer.status != 200:
        return list(codes)
    return [each["code"] for each in answer.json()["results"] if each.get("error", NOT_FOUND) != NOT_FOUND]


async def postgres_gone(day: Day) -> list[Row]:
    """All three servers killed, and started again a minute later; no standby is promoted."""
    cluster = day.stage.postgres
    async with day.crowd.changes_held():
        await warm(day)
        began = time.monotonic()
        await asyncio.gather(*(asyncio.to_thread(node.server.kill) for node in cluster.nodes))
    gone = time.monotonic()
    day.say(f"no Postgres for {GONE:g} s")
    await asyncio.sleep(GONE)  # this is the fault
    back = time.monotonic()
    write, fresh = await _started_again(day, back)
    return [
        none_failed(day.record.window(began, None, *KNOWN)),
        marked(day, gone, back),
        unknown_unanswered(day, gone, back),
        *await healed(day, POSTGRES_GONE, began, Recovery("the servers' start", back, write, fresh)),
    ]


async def _started_again(day: Day, back: float) -> tuple[float, float]:
    """All servers again, the primary first; when a change was first acknowledged, and when one was seen everywhere."""
    day.say("the servers start again")
    cluster = day.stage.postgres
    await restarted(cluster.primary)
    await asyncio.gather(*(restarted(node) for node in cluster.standbys))
    await day.visible(UNTIL_HEALED)
    fresh = time.monotonic()
    await cluster.in_step()
    await day.crowd.answered(time.monotonic())
    return first_acknowledged(day, back) or fresh, fresh


def marked(day: Day, gone: float, back: float) -> Row:
    """That answers are marked once they cannot be confirmed, at the latest when older than the soft age."""
    asked = list(of_kinds(day, gone, back, *KNOWN))
    stale = [seen for seen in asked if seen.outcome == "stale"]
    oldest = max((seen.age or 0.0 for seen in asked if seen.outcome == "good"), default=0.0)
    first = f", the first {stale[0].at - gone:.0f} s after Postgres had gone" if stale else ""
    return Row(
        "marked stale",
        f"{len(stale):,} of {len(asked):,}{first}; oldest unmarked {oldest:.0f} s",
        f"what cannot be confirmed, and all that is older than {SOFT_AGE:g} s",
        kept=bool(stale) and oldest <= SOFT_AGE,
    )


def unknown_unanswered(day: Day, gone: float, back: float) -> Row:
    """That no process says "no such dossier" while none can know."""
    asked = list(of_kinds(day, gone + NEGATIVE_AGE, back - 1, "unknown"))
    unanswered = sum(seen.outcome == "unavailable" for seen in asked)
    return Row(
        "unknown codes",
        f"{unanswered} of {len(asked)} answered 503, {len(asked) - unanswered} otherwise",
        "all 503",
        kept=len(asked) == unanswered > 0,
    )


async def both_gone(day: Day) -> list[Row]:
    """Postgres and Redis killed together: what is in a process's memory is all there is."""
    cluster, members = day.stage.postgres, day.stage.redis.members
    kills = [*(node.server.kill for node in cluster.nodes), *(member.kill for member in members)]
    async with day.crowd.changes_held():
        await warm(day)
        began = time.monotonic()
        await asyncio.gather(*map(asyncio.to_thread, kills))
    gone = time.monotonic()
    day.say(f"neither Postgres nor Redis for {BOTH_GONE:g} s")
    await asyncio.sleep(BOTH_GONE)  # this is the fault
    back = time.monotonic()
    for member in members:
        await asyncio.to_thread(member.restart)
    write, fresh = await _started_again(day, back)
    return [
        known_answered(day, began, back, fresh),
        unknown_unanswered(day, gone, back),
        refused_in_time(day, gone, back),
        *await healed(day, BOTH_GONE_TOGETHER, began, Recovery("the servers' start", back, write, fresh)),
    ]


def known_answered(day: Day, began: float, back: float, fresh: float) -> Row:
    """That codes in memory are answered. Between, they are asked for what was acknowledged only just, which is in no
    memory and, for as long as a lookup has not found Postgres again, nowhere it can look.
    """
    gone, between, after = (
        day.record.window(since, until, *KNOWN) for since, until in ((began, back), (back, fresh), (fresh, None))
    )
    return Row(
        "lookups",
        f"{gone.failed} of {gone.total:,} failed until the servers' start, {after.failed} of {after.total:,} once a "
        f"change was visible everywhere ({between.failed} of {between.total:,} in the {fresh - back:.1f} s between); "
        f"{gone.stale:,} marked stale",
        "0 failed before and after",
        kept=gone.total > 0 and not gone.failed and not after.failed,
    )


def refused_in_time(day: Day, gone: float, back: float) -> Timed:
    """That a request that cannot be answered is refused at once. Answers out of memory that took as long are counted
    beside it: they wait for the machine only.
    """
    asked = [seen for seen in of_kinds(day, gone, back, *LOOKUPS) if seen.answered_at < back]
    refused = [seen for seen in asked if seen.outcome == "unavailable"]
    answered = [seen for seen in asked if seen.outcome in ("good", "stale")]
    late, slow = ([seen.at for seen in some if seen.seconds > WITHIN] for some in (refused, answered))
    longest = max((seen.seconds for seen in refused), default=0.0)
    last = f", the last {max(late + slow) - gone:.1f} s after they had gone" if late or slow else ""
    return Timed(
        "503 in time",
        f"{len(late)} of {len(refused)} later, longest {longest * 1000:.0f} ms (and {len(slow)} of {len(answered):,} "
        f"answers out of memory{last}; the load itself was late by up to "
        f"{day.record.window(gone, back).lag * 1000:.0f} ms)",
        f"within {WITHIN * 1000:g} ms",
        kept=bool(refused) and not late,
    )


PRIMARY_KILLED = Fault(
    "postgres-killed",
    "kill -9 of the Postgres primary, a standby promoted",
    "0 failed lookups; no acknowledged change lost; changes wait, or get 503 and are safely repeated",
    kill_primary,
    short=True,
)
STANDBY_LAGS = Fault(
    "standby-lagging",
    "Postgres standbys lagging 30 s",
    "nothing older than the bound goes out unmarked; at_least is honoured",
    lagging,
)
UNCONFIRMED = Fault(
    "standby-stopped",
    "Standbys stopped; a submission times out and is repeated; the primary is killed",
    "nothing acknowledged is lost",
    unconfirmed,
)
POSTGRES_GONE = Fault(
    "postgres-gone",
    f"All Postgres gone for {GONE:g} s",
    "known codes answered (marked stale), unknown ones 503",
    postgres_gone,
)
BOTH_GONE_TOGETHER = Fault(
    "both-gone",
    f"Postgres and Redis both gone for {BOTH_GONE:g} s",
    f"codes in memory answered, the rest 503 within {WITHIN * 1000:g} ms",
    both_gone,
)
