"""The run itself: people come, the processes are replaced one by one, and in the end the books are gone over."""

import asyncio
import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests import answers
from loadtests.answers import Failure
from loadtests.codes import Shelf, address
from loadtests.rolling.people import Changes, Citizen, Desk, Lookups, Pace, missing_from_sequence
from loadtests.system import front
from loadtests.system.front import Front
from loadtests.system.http_client import Client, NoAnswer, Rotation, get, request
from loadtests.system.processes import HOSO24, CannotMeasure, end, surroundings, wait_until
from loadtests.system.replicas import Deployment, Faulty, Order, environ_of
from loadtests.verdict import Row
from ops.local.reaper import Guardian

KINDS = ("lookup", "intake", "relay")
SERVERS_SECONDS = 120.0
FIRST_DOSSIERS = 50
"""Handed in before anybody is replaced, for citizens to ask for."""
REPEATED = 300
"""Changes that are sent once more in the end."""
VISIBLE_SECONDS = 10.0
"""How long after the last change every lookup may take to show every change."""


ROTATION, HAPROXY = "rotation", "haproxy"


@dataclass(frozen=True)
class Plan:
    """How large a run is to be. Times in seconds, rates per second for all together."""

    lookups: int = 50_000
    rate: float = 800.0
    citizens: int = 32
    desks: int = 4
    changes_rate: float = 20.0
    replicas: int = 2
    order: Order = Order.NEW_FIRST
    front: str = ROTATION
    """Who chooses a process for a connection: the clients themselves, or HAProxy."""
    notice: float = 1.0
    drain: float = 3.0
    at_most: float = 900.0


@dataclass
class Run:
    """What has come of it so far."""

    plan: Plan
    lookups: Lookups = field(default_factory=Lookups)
    changes: Changes = field(default_factory=Changes)
    deployments: dict[str, Deployment] = field(default_factory=dict)
    front: Front | None = None
    """Who is in between; None where clients go to the processes themselves."""
    moved_on: int = 0
    """How often whoever is in between has gone on to another process by itself."""
    rounds: int = 0
    doing: str = "starting"
    faults: list[str] = field(default_factory=list)
    missing: Sequence[str] = ()
    invisible: Sequence[str] = ()
    repeated_otherwise: int = 0
    seconds: float = 0.0

    def doors(self, kind: str) -> Rotation:
        """Where those connect who want a lookup or an intake."""
        if self.front is None:
            return self.deployments[kind].rotation
        return self.front.lookup if kind == "lookup" else self.front.intake

    @property
    def replaced(self) -> int:
        return sum(deployment.replaced for deployment in self.deployments.values())


@contextmanager
def servers() -> Iterator[Path]:
    """Postgres and Redis of our own in a temporary directory, for as long as the block runs. Raises CannotMeasure."""
    with tempfile.TemporaryDirectory(prefix="hoso24-rolling-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # started as root, Postgres runs as somebody else, who has to get in
        log, there = folder / "up.log", folder / ".hoso24"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*HOSO24, "up", "--servers-only"],
                cwd=folder,
                env=surroundings(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                text=True,
            )
        try:
            ready = (there / "up.json").exists
            wait_until(ready, "hoso24 up", seconds=SERVERS_SECONDS, process=process, log=log)
            yield there
        finally:
            end(process)


async def rolling_restart(plan: Plan, folder: Path, logs: Path, show: Callable[[Run], None]) -> Run:
    """Run to the end. `folder` is that of `hoso24 up`; processes log to `logs`. Raises CannotMeasure."""
    if plan.order is Order.OLD_FIRST and plan.replicas < 2:
        raise CannotMeasure("With the old one first there have to be two of each kind, or there is nobody to ask.")
    run = Run(plan)
    began = time.monotonic()
    try:
        token = json.loads((folder / "up.json").read_text("utf-8"))["token"]
    except (OSError, ValueError, KeyError) as error:
        raise CannotMeasure(f"{folder / 'up.json'} cannot be read: {error}.") from None
    environ = environ_of(folder) | {
        "HOSO24_DRAIN_SECONDS": f"{plan.drain:g}",
        "HOSO24_HOST": "127.0.0.1",
        "HOSO24_PARTNERS": "127.0.0.0/8",  # we who go over the books ask for everything at once
    }
    async with AsyncExitStack() as stack:
        showing = asyncio.create_task(_show(run, show))
        stack.callback(showing.cancel)
        if plan.front == HAPROXY:
            run.front = await stack.enter_async_context(_haproxy(logs, stack.enter_context(Guardian())))
        for kind in KINDS:
            run.deployments[kind] = Deployment(kind, environ, logs)
            if run.front is not None and kind in front.KINDS:
                run.deployments[kind].came, run.deployments[kind].went = run.front.came, run.front.went
            stack.push_async_callback(run.deployments[kind].close)
        try:
            async with asyncio.timeout(plan.at_most):
                await asyncio.gather(*(run.deployments[kind].scale(plan.replicas) for kind in KINDS))
                await _under_load(run, token)
            if run.front is not None:
                run.moved_on = await run.front.retries()
        except Faulty as fault:
            run.faults.append(str(fault))
        except TimeoutError:
            run.faults.append(f"not at its end after {plan.at_most:g} s")
    run.seconds = time.monotonic() - began
    show(run)
    return run


def _haproxy(folder: Path, guardian: Guardian) -> contextlib.AbstractAsyncContextManager[Front]:
    program = front.program()
    if program is None:
        raise CannotMeasure("HAProxy is not installed (Debian: apt-get install haproxy).")
    return front.running(folder, guardian, program)


async def _show(run: Run, show: Callable[[Run], None]) -> None:
    while True:
        show(run)
        await asyncio.sleep(0.1)


async def _under_load(run: Run, token: str) -> None:
    plan, shelf, enough = run.plan, Shelf(), asyncio.Event()
    desks = [Desk(run.doors("intake"), token, shelf, run.changes) for _ in range(max(1, plan.desks))]
    run.doing = "handing in the first dossiers"
    for n in range(FIRST_DOSSIERS):
        await desks[n % len(desks)].receive_and_move()
    if not len(shelf):
        raise CannotMeasure(f"The intake took nothing in: {', '.join(run.changes.unanswered)}.")
    lookups = run.doors("lookup")
    try:
        statuses = answers.statuses(await get(lookups.next(), "/api/v1/statuses"))
    except Failure as failure:
        raise CannotMeasure(f"The lookup does not answer: {failure}.") from None
    asking, handing_in = Pace(plan.rate), Pace(plan.changes_rate)
    people = [
        asyncio.create_task(Citizen(n, lookups, shelf, statuses, run.lookups).ask_on(asking, enough))
        for n in range(plan.citizens)
    ] + [asyncio.create_task(desk.work(handing_in, enough)) for desk in desks]
    try:
        await _replace_all(run)
        enough.set()
        await asyncio.gather(*people)
        await _go_over_the_books(run, desks[0], shelf)
    finally:
        for person in people:
            person.cancel()
        await asyncio.gather(*people, return_exceptions=True)


async def _replace_all(run: Run) -> None:
    """Every process once, and again until enough was asked."""
    while run.rounds == 0 or run.lookups.total < run.plan.lookups:
        for kind in KINDS:
            run.doing = f"round {run.rounds + 1}: replacing each {kind}"
            await run.deployments[kind].roll(run.plan.order, run.plan.notice)
        run.rounds += 1


async def _go_over_the_books(run: Run, desk: Desk, shelf: Shelf) -> None:
    run.doing = "going over the books"
    await desk.receive_and_move()  # whoever came before this one has no number above its
    run.missing = missing_from_sequence(run.changes.dossiers)
    run.invisible = await _invisible(run)
    for change in run.changes.made[-REPEATED:]:
        if change.answer is not None and not await desk.repeat(change):
            run.repeated_otherwise += 1


async def _invisible(run: Run) -> list[str]:
    """The changes that not every lookup shows in the end."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    ports = run.deployments["lookup"].rotation.ports
    return sorted(set().union(*await asyncio.gather(*(_invisible_at(port, run, deadline) for port in ports))))


async def _invisible_at(port: int, run: Run, deadline: float) -> set[str]:
    """What this lookup does not show: asked for once, and what was missing again and again until the deadline."""
    client = Client(Rotation([port]))
    waiting = set(run.changes.dossiers)
    try:
        while True:
            waiting = {code for code in waiting if not await _shows(client, run, code)}
            if not waiting or time.monotonic() > deadline:
                return waiting
    finally:
        client.hang_up()


async def _shows(client: Client, run: Run, code: str) -> bool:
    try:
        answer = await client.ask(request("GET", f"/api/v1/dossiers/{address(code)}", {}))
    except NoAnswer:
        return False
    return answer.status == 200 and bool(answer.json()["version"] == run.changes.dossiers[code])


def judge(run: Run) -> list[Row]:
    """Each promise, what was seen of it, and whether it was kept. Where nothing was seen, nothing was kept."""
    lookups, changes, relays = run.lookups, run.changes, run.deployments["relay"]
    answered = sum(change.answer is not None for change in changes.made)
    processes = run.plan.replicas * len(KINDS)
    between = f"{run.moved_on} tried elsewhere by HAProxy, " if run.front is not None else ""
    stop = max(deployment.longest_stop for deployment in run.deployments.values())
    return [
        Row(
            "lookups",
            f"{lookups.failed.total()} of {lookups.total:,} failed; {between}{lookups.asked_twice} asked twice, "
            f"{lookups.during_drain} answered while draining, longest {lookups.longest * 1000:.0f} ms",
            f"0 of {run.plan.lookups:,} failed",
            lookups.failed.total() == 0 and lookups.total >= run.plan.lookups,
        ),
        Row(
            "changes answered",
            f"{answered:,} of {len(changes.made):,}; {changes.repeated} repeated under their key, "
            f"{changes.during_drain} answered while draining",
            "all",
            0 < answered == len(changes.made),
        ),
        Row(
            "changes kept once",
            f"{len(run.missing)} numbers used for nobody, {run.repeated_otherwise} of the last "
            f"{min(REPEATED, answered)} answered otherwise when repeated",
            "0 and 0",
            answered > 0 and not run.missing and run.repeated_otherwise == 0,
        ),
        Row(
            "changes visible",
            f"{len(changes.dossiers) - len(run.invisible):,} of {len(changes.dossiers):,} dossiers at their last "
            f"version in every lookup within {VISIBLE_SECONDS:g} s",
            "all",
            len(changes.dossiers) > 0 and not run.invisible,
        ),
        Row(
            "processes",
            f"{run.replaced} replaced in {run.rounds} rounds; longest stop {stop:.1f} s",
            f"{processes} a round, each ending by itself with status 0",
            run.rounds > 0 and run.replaced == processes * run.rounds and not run.faults,
        ),
        Row(
            "relay",
            f"leadership went over {relays.handovers} times, longest {relays.longest_handover:.2f} s",
            "once a round or more",
            relays.handovers >= run.rounds > 0,
        ),
    ]


def explain(run: Run) -> Iterator[str]:
    """What went wrong, in as many lines as it takes, but not more than a few of each kind."""
    yield from run.faults
    yield from (f"lookup failed: {why} ({count} times)" for why, count in run.lookups.failed.most_common(5))
    yield from (f"change not answered: {why} ({count} times)" for why, count in run.changes.unanswered.most_common(5))
    yield from (f"nobody has a receipt for {code}" for code in run.missing[:5])
    yield from (f"not visible everywhere: {code}" for code in run.invisible[:5])
