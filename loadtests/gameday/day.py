"""The day itself: one fault after the other, the system let settle in between, and what each was judged by.

A fault's act injects, waits for what has to happen, heals, and says which of its promises were kept. Whatever goes
wrong in it is a promise that was not kept, and the day goes on, unless the system does not become well again: then
there is nothing left to break.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

from loadtests.codes import address
from loadtests.gameday.crowd import Crowd
from loadtests.gameday.expected import Expected
from loadtests.gameday.record import LOOKUPS, Record, Window
from loadtests.system.http_client import Client, NoAnswer, get, request
from loadtests.system.replicas import Deployment, Order, Replica
from loadtests.system.stage import StagedSystem
from loadtests.verdict import Row

T = TypeVar("T")

SETTLED_SECONDS = 90.0
"""How long the system may take to be well again by itself after a fault was healed."""
PROBE_SECONDS = 2.0
"""Longest the day waits for one answer of a process it asks: one that is stopped gives none."""
POLL_SECONDS = 0.02

log = logging.getLogger(__name__)


class Skipped(Exception):
    """This machine lacks what a fault needs; the text says what."""


class NotInTime(Exception):
    """What was waited for did not happen; the text says what, and for how long it was waited for."""


class Timed(Row):
    """A promise about seconds: only reported, not judged, on a day whose machine others use as well."""


Act = Callable[["Day"], Awaitable[list[Row]]]


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `must_hold` is its promise as the table has it; `short`: part of the short day."""

    name: str
    title: str
    must_hold: str
    act: Act
    short: bool = False


@dataclass
class Outcome:
    """What became of one fault; monotonic seconds. `skipped` says why it did not take place."""

    fault: Fault
    began: float
    ended: float = 0.0
    rows: list[Row] = field(default_factory=list)
    skipped: str = ""

    @property
    def kept(self) -> bool:
        """Whether every promise was; where nothing was judged, nothing was kept."""
        return (bool(self.skipped) or bool(self.rows)) and all(row.kept for row in self.rows)


@dataclass(frozen=True)
class Restarts:
    """How the rolling restart goes: round after round until so many lookups were asked, one round at the least."""

    lookups: int = 0
    order: Order = Order.NEW_FIRST


@dataclass
class Day:
    """The system, the people, what they have seen, and how it stands with each process."""

    stage: StagedSystem
    record: Record
    expected: Expected
    crowd: Crowd
    figures: dict[str, dict[str, float]] = field(default_factory=dict)
    """Fault's name → figure → seconds or a count: what the arithmetic of availability is fed with."""
    judge_times: bool = True
    judge_alerts: Callable[[str, float], Awaitable[Sequence[Row]]] | None = None
    """The promises about alerts, of a fault that began at that moment, once all is well; None without Prometheus."""
    judge_partners: Callable[[], Awaitable[Row]] | None = None
    """The promise about what partners are told, once all is well; None without partners."""
    healthy: float = 45.0
    """Seconds for which nothing is broken to begin with."""
    restarts: Restarts = Restarts()
    started: float = field(default_factory=time.monotonic)
    tell: Callable[[str], None] = lambda _: None
    """Called with what is being done now."""

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """All processes, by kind."""
        return self.stage.deployments

    @property
    def replicas(self) -> list[Replica]:
        """All processes."""
        return [replica for deployment in self.deployments for replica in deployment.replicas]

    def say(self, doing: str) -> None:
        """Tell what is being done, and how lookups fare."""
        self.tell(f"{doing} ({told(self.record.window(time.monotonic() - 2.0), 2.0)})")

    def figure(self, fault: str, name: str, number: float) -> None:
        """Keep one figure of a fault."""
        self.figures.setdefault(fault, {})[name] = round(number, 4)

    # -- waiting ----------------------------------------------------------------------------------------------

    async def until(self, happened: Callable[[], Awaitable[T | None]], within: float, what: str) -> T:
        """The first true answer to `happened`, asked again and again. Raises NotInTime after so many seconds."""
        try:
            async with asyncio.timeout(within):
                while not (answer := await happened()):  # noqa: ASYNC110 - others' to do, elsewhere
                    await asyncio.sleep(POLL_SECONDS)
                return answer
        except TimeoutError:
            raise NotInTime(f"not within {within:g} s: {what}") from None

    async def settled(self, within: float = SETTLED_SECONDS) -> float:
        """Return once all is well, with the seconds that took: every process there and ready, the standbys and the
        replica in step, a relay in the lead, no breaker open anywhere, and a change made now visible in every lookup
        and entered into the books. Raises NotInTime.
        """
        self.say("settling")
        began = time.monotonic()
        for what, reached in (
            ("every process is ready", self._all_ready),
            ("the standbys are in step", self.stage.postgres.in_step),
            ("Redis's replica is in step", self.stage.redis.in_step),
            ("a relay leads", self._a_relay_leads),
            ("no process takes a dependency for gone", lambda: self.trusted(within)),
        ):
            try:
                async with asyncio.timeout(max(1.0, began + within - time.monotonic())):
                    await reached()
            except TimeoutError:
                raise NotInTime(f"not within {within:g} s: {what}") from None
        entries = await self.entries()
        await self.visible(max(1.0, began + within - time.monotonic()))
        await self.entered(entries, max(1.0, began + within - time.monotonic()))
        return time.monotonic() - began

    async def _all_ready(self) -> None:
        await self.stage.mend()
        for replica in self.replicas:
            await replica.until_ready()

    async def _a_relay_leads(self) -> None:
        await self.until(self.leader, SETTLED_SECONDS, "a relay leads")

    async def trusted(self, within: float) -> None:
        """Return once no process takes a dependency for gone that is there. Raises NotInTime, and names one that does.

        A fault that began before would not be one fault: the lookups would lack two dependencies.
        """
        distrust: list[str] = []

        async def none_distrusts() -> bool:
            distrust[:] = [
                f"{replica.name} of {labels.get('dependency', '')}"
                for replica in self.replicas
                for name, labels, value in await self.metrics(replica)
                if name == "hoso24_breaker_open" and value
            ]
            return not distrust

        try:
            await self.until(none_distrusts, within, "no breaker is open")
        except NotInTime as late:
            raise NotInTime(f"{late} ({'; '.join(distrust[:3])})") from None

    async def visible(self, within: float) -> float:
        """The seconds from when a change made now is acknowledged until every lookup shows it. Raises NotInTime."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(within):
                code = await self.crowd.submit()
        except TimeoutError:
            raise NotInTime(f"not within {within:g} s: a submission is acknowledged") from None
        acknowledged = time.monotonic()
        await self.shown({code: 1}, max(0.1, began + within - acknowledged))
        return time.monotonic() - acknowledged

    async def entries(self) -> int:
        """How many entries the notary has signed; 0 without an answer."""
        return int(sum([await self.metric(notary, "notary_tree_size") for notary in self.stage.notaries.replicas]))

    async def entered(self, entries: int, within: float) -> None:
        """Return once the books have more entries than these, and nothing older than a second waits to be entered.

        Raises NotInTime.
        """

        async def more() -> bool:
            behind = [await self.metric(notary, "notary_behind_seconds") for notary in self.stage.notaries.replicas]
            return await self.entries() > entries and max(behind) < 1.0

        await self.until(more, within, f"the books have more than {entries:,} entries")

    async def shown(self, versions: Mapping[str, int], within: float) -> None:
        """Return once every lookup shows each of these dossiers at its version or a later one, and unmarked.

        Raises NotInTime, and names one that is missing.
        """
        missing: dict[str, str] = {}

        async def at(replica: Replica) -> None:
            waiting = dict(versions)
            with Client.of(replica.port) as client:
                while waiting:
                    for code, version in list(waiting.items()):
                        if await self.shows(client, code, version):
                            del waiting[code]
                        else:
                            missing[replica.name] = f"{code} at version {version} ({len(waiting)} missing)"
                    await asyncio.sleep(POLL_SECONDS if waiting else 0)
                missing.pop(replica.name, None)

        try:
            async with asyncio.timeout(within):
                await asyncio.gather(*(at(replica) for replica in self.stage.lookups.replicas))
        except TimeoutError:
            where = "; ".join(f"{name} does not show {what}" for name, what in sorted(missing.items()))
            raise NotInTime(f"not within {within:.1f} s: {where or 'every lookup shows it'}") from None

    @staticmethod
    async def shows(client: Client, code: str, version: int) -> bool:
        """Whether the process at the other end shows this version, or a later one, unmarked."""
        try:
            answer = await client.ask(request("GET", f"/api/v1/dossiers/{address(code)}", {}))
        except NoAnswer:
            return False
        if answer.status != 200:
            return False
        content = answer.json()
        return not content.get("stale", False) and int(content["version"]) >= version

    async def judged(self, began: float, ended: float | None = None, *kinds: str) -> Window:
        """What was asked between these moments (until now, if None), once all of it is answered or given up."""
        ended = time.monotonic() if ended is None else ended
        await self.crowd.answered(ended)
        return self.record.window(began, ended, *kinds)

    # -- looking at processes ---------------------------------------------------------------------------------

    async def leader(self) -> Replica | None:
        """The relay that says it leads, if one does; one that does not answer does not lead."""
        relays = list(self.stage.relays.replicas)
        leads = await asyncio.gather(*(self.metric(relay, "relay_leader") for relay in relays))
        return next((relay for relay, one in zip(relays, leads, strict=True) if one == 1.0), None)

    async def metric(self, replica: Replica, name: str, **labels: str | tuple[str, ...]) -> float:
        """The sum of this metric's samples that have these labels, or for each one of these; 0.0 where there are none,
        or no answer.
        """

        def meant(own: Mapping[str, str]) -> bool:
            return all(own.get(label) in ((one,) if isinstance(one, str) else one) for label, one in labels.items())

        return sum(value for sample, own, value in await self.metrics(replica) if sample == name and meant(own))

    @staticmethod
    async def metrics(replica: Replica) -> list[tuple[str, dict[str, str], float]]:
        """Every sample of its /metrics: name, labels, value. Empty when it does not answer."""
        answer = await get(replica.admin_port, "/metrics", PROBE_SECONDS)
        if answer.status != 200:
            return []
        families = text_string_to_metric_families(answer.body.decode())
        return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


# -- the runner -----------------------------------------------------------------------------------------------


def told(window: Window, seconds: float) -> str:
    """One line about a stretch of time."""
    longest = f", longest {window.longest * 1000:.0f} ms" if window.total else ""
    return f"{window.total / seconds:.0f}/s, {window.failed} failed, {window.stale} stale{longest}"


async def play(day: Day, faults: Sequence[Fault], over: Callable[[Outcome], None]) -> list[Outcome]:
    """All of them in this order, and what became of each; `over` is told of each when it is over. Raises NotInTime if
    the system is not well to begin with.

    When it is not well again after one, those that follow are not played, and each is a promise not kept.
    """
    outcomes: list[Outcome] = []
    await day.settled()
    well = True
    for number, fault in enumerate(faults, 1):
        outcome = Outcome(fault, time.monotonic())
        day.say(f"{number} of {len(faults)}: {fault.title}")
        if well:
            await _suffer(day, outcome)
            well = not any(row.sli == WELL_AGAIN and not row.kept for row in outcome.rows)
        else:
            outcome.rows.append(Row("took place", "no: the system was not well before it", "yes", kept=False))
            outcome.ended = time.monotonic()
        outcomes.append(outcome)
        over(outcome)
    return outcomes


WELL_AGAIN = "well again"


async def _suffer(day: Day, outcome: Outcome) -> None:
    fault = outcome.fault
    try:
        outcome.rows += await fault.act(day) or [Row("judged by", "nothing", "something", kept=False)]
    except Skipped as reason:
        outcome.skipped = str(reason)
    except Exception as error:
        log.exception("%s did not run to its end.", fault.name)
        outcome.rows.append(Row("ran to its end", f"{type(error).__name__}: {error}", "yes", kept=False))
    well = await _well_again(day)
    outcome.ended = time.monotonic()
    if not (outcome.skipped and well.kept):
        outcome.rows.append(well)
    if not outcome.skipped:
        seen = day.record.window(outcome.began, None, *LOOKUPS)
        day.figure(fault.name, "lookups", seen.total - seen.count("limited"))
        day.figure(fault.name, "failed", seen.failed)
    if well.kept and day.judge_partners is not None:
        day.say("partners are told the rest")
        outcome.rows.append(await day.judge_partners())
    if well.kept and not outcome.skipped and day.judge_alerts is not None:
        day.say("alerts have to end")
        outcome.rows += await day.judge_alerts(fault.name, outcome.began)
    if not day.judge_times:
        outcome.rows = [row._replace(kept=True) if isinstance(row, Timed) else row for row in outcome.rows]


async def _well_again(day: Day) -> Row:
    due = f"by itself within {SETTLED_SECONDS:g} s"
    try:
        seconds = await day.settled()
    except Exception as error:
        log.exception("Not well again.")
        return Row(WELL_AGAIN, str(error) or type(error).__name__, due, kept=False)
    return Row(WELL_AGAIN, f"after {seconds:.1f} s", due, kept=True)
