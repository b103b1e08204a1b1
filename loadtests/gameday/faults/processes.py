"""What happens to processes: killed, replaced, stopped, given another time of day, flooded, and a whole day long."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from loadtests.gameday.day import Day, Fault, NotInTime
from loadtests.gameday.faults.postgres import changes_kept
from loadtests.gameday.faults.redis import Delivered, out_of_order, stream, stream_end
from loadtests.gameday.promises import changes_acknowledged, none_failed, nothing_wrong, within
from loadtests.gameday.record import LOOKUPS
from loadtests.system.redis import Member
from loadtests.system.replicas import Replica
from loadtests.verdict import Row

NOTICE_SECONDS = 1.0
"""Until a fallen readiness has got about."""
SHOWN_SECONDS = 10.0
"""How long after the last change every lookup may take to show every change."""
TAKEOVER_SECONDS = 60.0
VISIBLE_SECONDS = 30.0
PILED_UP = 40
"""Changes that wait to be delivered when the leading relay is stopped."""
AT_ONCE = 8
"""Of these, so many are handed in at the same time."""
NO_LEADER_SECONDS = 1.0
"""A leader that is stopped keeps the lock for longer than this: for three seconds."""
SENT_SECONDS = 0.06
"""Until a relay has read what is there and sent it to Redis: two of its rounds. It gives Redis up after 0.1 s."""


# -- killed and replaced --------------------------------------------------------------------------------------------


async def _kill_a_lookup(day: Day) -> list[Row]:
    lookups = day.stage.lookups
    victim = lookups.replicas[0]
    connections = await day.metric(victim, "hoso24_connections", service="lookup")
    by_front = await day.stage.front.retries()
    began = time.monotonic()
    victim.kill()
    day.say(f"{victim.name} is dead; another one starts")
    await lookups.replace(victim)
    back = time.monotonic()
    seen = await day.judged(began)
    again = seen.retried + await day.stage.front.retries() - by_front
    due = connections + day.crowd.pace.rate * NOTICE_SECONDS / len(lookups.replicas)
    day.figure("lookup-killed", "replaced_s", back - began)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        Row(
            "asked again",
            f"{again} requests; {connections:.0f} connections led to it when it was killed",
            f"those under way there, and those sent there until it was noticed: at most {due:.0f}",
            kept=again <= due,
        ),
    ]


@dataclass(frozen=True)
class Rolled:
    """What came of replacing every process, `rounds` times; counts and seconds of all rounds together."""

    due: int
    """Lookups that were to be asked meanwhile; 0 for any number."""
    asked: int
    rounds: int
    processes: int
    """Of all kinds, in one round."""
    replaced: int
    handovers: int
    """How often another relay led when the leading one had been told to stop."""
    refused: int
    """Connections that a process in rotation did not take."""
    longest_stop: float
    repeated: int
    otherwise: int
    """Of the repeated changes, those that were not answered as the first time."""
    changed: int
    """Dossiers that were taken in or moved meanwhile."""
    not_shown: str
    """Which of them some lookup does not show at its last version; empty for none."""

    def rows(self) -> list[Row]:
        """Each promise, and whether it was kept. Where nothing was seen, nothing was kept."""
        return [
            Row("asked", f"{self.asked:,} lookups", f"{self.due:,}", kept=self.asked >= max(1, self.due)),
            Row(
                "processes",
                f"{self.replaced} replaced in {self.rounds} rounds, each ending by itself with status 0; longest stop "
                f"{self.longest_stop:.1f} s",
                f"{self.processes} a round",
                kept=0 < self.replaced == self.processes * self.rounds,
            ),
            Row(
                "relay",
                f"leadership went over {self.handovers} times",
                "once a round or more",
                kept=self.handovers >= self.rounds > 0,
            ),
            Row("connections", f"{self.refused} refused by a process in rotation", "0", kept=self.refused == 0),
            Row(
                "changes kept once",
                f"{self.otherwise} of the last {self.repeated} answered otherwise when they were repeated",
                "0",
                kept=self.repeated > self.otherwise == 0,
            ),
            Row(
                "changes visible",
                self.not_shown or f"{self.changed:,} dossiers at their last version in every lookup",
                f"all within {SHOWN_SECONDS:g} s",
                kept=self.changed > 0 and not self.not_shown,
            ),
        ]


async def _roll(day: Day) -> list[Row]:
    began, rounds, asked, due, stage = time.monotonic(), 0, 0, day.restarts.lookups, day.stage
    replaced, handovers = sum(each.replaced for each in day.deployments), stage.relays.handovers
    ways = (stage.front.lookup, stage.front.intake)
    refused = sum(way.refused for way in ways)
    while not rounds or asked < due:
        rounds += 1
        for deployment in day.deployments:
            day.say(f"round {rounds}: every {deployment.kind} is replaced")
            await deployment.roll(day.restarts.order, NOTICE_SECONDS)
        asked = day.record.window(began, None, *LOOKUPS).total
    day.figure("rolling-restart", "seconds", time.monotonic() - began)
    async with day.crowd.changes_held():
        day.say("every change has to be shown, and the last ones are repeated")
        changed, not_shown = day.expected.changed_since(began), ""
        try:
            await day.shown(changed, SHOWN_SECONDS)
        except NotInTime as late:
            not_shown = str(late)
        repeated, otherwise = await day.crowd.repeat_the_last()
    seen = await day.judged(began)
    rolled = Rolled(
        due=due,
        asked=asked,
        rounds=rounds,
        processes=len(day.replicas),
        replaced=sum(each.replaced for each in day.deployments) - replaced,
        handovers=stage.relays.handovers - handovers,
        refused=sum(way.refused for way in ways) - refused,
        longest_stop=max(each.longest_stop for each in day.deployments),
        repeated=repeated,
        otherwise=otherwise,
        changed=len(changed),
        not_shown=not_shown,
    )
    promises = [none_failed(seen), nothing_wrong(seen), changes_acknowledged(seen), await changes_kept(day)]
    return [*promises, *rolled.rows()]


# -- the leading relay, stopped -------------------------------------------------------------------------------------


@dataclass
class Handover:
    """What came of stopping the leader once. `took`: seconds until another one led.

    `reached`: whether its batch got to Redis when it was stopped already. `delivered`: the stream since before it.
    """

    took: float
    made: set[tuple[str, int]]
    reached: bool
    delivered: Sequence[Delivered]

    @property
    def missing(self) -> set[tuple[str, int]]:
        return self.made - {(entry.code, entry.version) for entry in self.delivered}


async def _stop_the_leader(day: Day) -> list[Row]:
    began = time.monotonic()
    handovers = [await _hand_over(day, sent=sent) for sent in (True, False)]
    seen = await day.judged(began)
    missing = set().union(*(each.missing for each in handovers))
    wrong = [fault for each in handovers for fault in out_of_order(each.delivered)]
    made = sum(len(each.made) for each in handovers)
    slowest = max(each.took for each in handovers)
    day.figure("relay-stopped", "taken_over_s", slowest)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        Row(
            "delivered",
            f"{made - len(missing)} of {made} changes that waited when the leader was stopped; its batch reached Redis "
            f"after that {sum(each.reached for each in handovers)} times",
            "all",
            kept=made > 0 and not missing,
        ),
        Row(
            "order",
            "; ".join(wrong[:2]) or "nothing missing, nothing twice, every dossier's versions one by one",
            "as in the log",
            kept=not wrong,
        ),
        within("another relay leads", slowest, 10),
    ]


async def _hand_over(day: Day, *, sent: bool) -> Handover:
    """Let changes pile up, and stop the leader as it delivers them; it wakes when another one leads.

    `sent`: stopped when it has sent its batch and Redis has not had it, which then gets it all the same.
    """
    group = day.stage.redis
    primary, leader = await group.primary(), await day.leader()
    if leader is None:
        raise NotInTime("no relay leads")
    end = await stream_end(group, primary)
    day.say("changes pile up")
    async with _delivery_held_up(day):
        made = await _pile_up(day)
        if sent:
            await primary.wire.stall()
    stopped = time.monotonic()
    try:
        if sent:
            await asyncio.sleep(SENT_SECONDS)  # nothing tells when it is on its way, and it is given up soon
        leader.freeze()
    finally:
        await primary.wire.pass_on()
    try:
        reached = sent and await _reached(day, primary, end)
        day.say(f"{leader.name} is stopped; another one has to lead")
        await day.until(lambda: _another_leads(day, leader), TAKEOVER_SECONDS, "another relay leads")
        took = time.monotonic() - stopped
        await day.shown(_latest(made), VISIBLE_SECONDS)
    finally:
        leader.thaw()
    day.say("the old leader has to stand by")
    await day.until(lambda: _stands_by(day, leader), TAKEOVER_SECONDS, "the old leader stands by")
    handover = Handover(took, made, reached, await stream(group, await group.primary(), end))

    async def all_delivered() -> bool:
        handover.delivered = await stream(group, await group.primary(), end)
        return not handover.missing

    with contextlib.suppress(NotInTime):  # a lookup may show what it has read from Postgres and not heard of yet
        await day.until(all_delivered, VISIBLE_SECONDS, "what waited is delivered")
    return handover


async def _reached(day: Day, primary: Member, end: str) -> bool:
    """Whether the stream goes on behind this entry, though no relay leads."""

    async def moved() -> bool:
        return await stream_end(day.stage.redis, primary) != end

    try:
        return await day.until(moved, NO_LEADER_SECONDS, "the batch reaches Redis")
    except NotInTime:
        return False


def _latest(made: set[tuple[str, int]]) -> dict[str, int]:
    """Code → its last version."""
    return dict(sorted(made))


@contextlib.asynccontextmanager
async def _delivery_held_up(day: Day) -> AsyncIterator[None]:
    """A transaction that writes is open, and what comes after it waits to be delivered."""
    async with day.stage.postgres.connected() as connection:
        await connection.execute("BEGIN")
        await connection.execute("SELECT pg_current_xact_id()")
        yield
        await connection.execute("ROLLBACK")


async def _pile_up(day: Day) -> set[tuple[str, int]]:
    """Changes made now: dossiers taken in, and each moved on and on; (code, version) of all of them."""

    async def life() -> list[tuple[str, int]]:
        code = await day.crowd.submit()
        made = [(code, 1)]
        while len(made) < PILED_UP // AT_ONCE and not day.expected.statuses[day.expected.status(code)].final:
            made.append((code, await day.crowd.move(code)))
        return made

    lives = await asyncio.gather(*(life() for _ in range(AT_ONCE)))
    return {change for each in lives for change in each}


async def _another_leads(day: Day, old: Replica) -> bool:
    others = [relay for relay in day.stage.relays.replicas if relay is not old]
    return any([await day.metric(relay, "relay_leader") == 1.0 for relay in others])


async def _stands_by(day: Day, relay: Replica) -> bool:
    """Whether it answers, and says that it does not lead."""
    samples = await day.metrics(relay)
    return any(name == "relay_leader" and value == 0.0 for name, _, value in samples)


KILLED = Fault(
    "lookup-killed",
    "kill -9 of one lookup",
    "only its in-flight requests retried; 0 errors at the front",
    _kill_a_lookup,
    short=True,
)
ROLLED = Fault("rolling-restart", "rolling restart of all processes", "0 errors", _roll, short=True)
RELAY_STOPPED = Fault(
    "relay-stopped",
    "SIGSTOP of the leading relay mid-batch",
    "another takes over; nothing lost, nothing doubled in effect, order kept",
    _stop_the_leader,
    short=True,
)
