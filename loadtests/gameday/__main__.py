"""`python -m loadtests.gameday`: status 0 when every promise was kept, 1 when one was not, 2 without a game day."""

import asyncio
import contextlib
import functools
import logging
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from loadtests.gameday import alerting, report
from loadtests.gameday.crowd import Crowd
from loadtests.gameday.day import Day, Fault, NotInTime, Outcome, Restarts, play
from loadtests.gameday.display import line, spelled_out
from loadtests.gameday.expected import Expected
from loadtests.gameday.faults import FAULTS
from loadtests.gameday.faults.healthy import HEALTHY
from loadtests.gameday.partners import Partners
from loadtests.gameday.reckoning import reckoning
from loadtests.gameday.record import Record
from loadtests.system import prometheus
from loadtests.system.processes import CannotMeasure, leave_on_signals, until_told_to_stop
from loadtests.system.replicas import Faulty, Order
from loadtests.system.stage import StagedSystem, staged
from ops.local.cannot_start import CannotStart

HURRY = 20.0
"""How many times shorter the windows of rules are than in production, so that they fit faults of a minute."""
STRETCH, SHORT_STRETCH = 45.0, 15.0
"""Seconds in which nothing is broken: the longest of the hurried windows, and a third of it on a short day."""
NAMES = [fault.name for fault in FAULTS]


@click.command(
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
    epilog=f"Faults, in the order in which they happen: {', '.join(NAMES)}.",
)
@click.option("--short", is_flag=True, help="Eight faults within three minutes.")
@click.option("--only", metavar="NAME,…", help="These faults and no others.")
@click.option("--rate", default=200.0, type=click.FloatRange(1, 300), help="Lookups a second, steadily.")
@click.option(
    "--folder",
    default="gameday-report",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the report goes, and the logs of all processes if a promise was not kept.",
)
@click.option(
    "--untimed", is_flag=True, help="Report times and do not judge them: for a machine that is busy with other things."
)
@click.option(
    "--healthy",
    default=0.0,
    metavar="MINUTES",
    type=click.FloatRange(0, 24 * 60),
    help="Break nothing for so many minutes, with the rules for alerts as they are (60: a healthy hour).",
)
@click.option(
    "--lookups", default=0, type=click.IntRange(0), help="Replace processes until so many were asked (rolling-restart)."
)
@click.option(
    "--order",
    default=Order.NEW_FIRST.value,
    type=click.Choice([order.value for order in Order]),
    help="Which of the two comes first when a process is replaced (rolling-restart).",
)
@click.option(
    "--front",
    default="haproxy",
    type=click.Choice(["haproxy", "rotation"]),
    help="What chooses a process for a connection: HAProxy, if it is installed, or the clients themselves.",
)
def main(
    *,
    short: bool,
    only: str | None,
    rate: float,
    folder: Path,
    untimed: bool,
    healthy: float,
    lookups: int,
    order: str,
    front: str,
) -> None:
    """Start a production-shaped system here, put it under load, break it in every way, and see what it promised hold.

    Servers, processes and data are its own, in a temporary directory, and are gone afterwards.
    """
    leave_on_signals()
    console = Console(stderr=True)

    def say(what: str) -> None:
        console.print(what, style="dim", highlight=False, markup=False)

    place = Path(tempfile.mkdtemp(prefix="hoso24-gameday-"))
    place.chmod(0o755)  # started as root, the servers run under another account, which has to get in
    try:
        folder.mkdir(parents=True, exist_ok=True)
        faults = chosen(short=short, only=HEALTHY.name if healthy else only)
        logging.basicConfig(filename=folder / "gameday.log", filemode="w", format="%(asctime)s %(name)s %(message)s")
        kind = "part" if only or healthy else "short" if short else "full"
        system = staged(place, say, haproxy=front == "haproxy")
        stretch = 60 * healthy or (SHORT_STRETCH if short else STRETCH)
        how: dict[str, Any] = {
            "tell": say,
            "healthy": stretch,
            "hurry": 1.0 if healthy else HURRY,
            "judge_times": not untimed,
            "restarts": Restarts(lookups, Order(order)),
        }
        day = game_day(system, folder, faults, kind=kind, rate=rate, console=console, **how)
        outcomes = asyncio.run(until_told_to_stop(day))
        leave_on_signals()  # the loop had handlers of its own
        kept = all(outcome.kept for outcome in outcomes)
        if not kept:
            keep_logs(place, folder / "logs")
    except (CannotMeasure, CannotStart, Faulty, NotInTime, OSError) as reason:
        click.echo(str(reason), err=True)
        sys.exit(2)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    for outcome in outcomes:
        click.echo(spelled_out(outcome))
    click.echo(f"{'Every promise was kept' if kept else 'Not every promise was kept'}; see {folder}.")
    sys.exit(0 if kept else 1)


def chosen(*, short: bool, only: str | None) -> Sequence[Fault]:
    """The faults that are wanted, in the table's order. Raises CannotMeasure for a name there is not."""
    names = [name.strip() for name in only.split(",")] if only else [f.name for f in FAULTS if f.short or not short]
    for name in names:
        if name not in NAMES:
            raise CannotMeasure(f"There is no fault {name!r}; there are {', '.join(NAMES)}.")
    return [fault for fault in FAULTS if fault.name in names]


async def game_day(
    system: AbstractAsyncContextManager[StagedSystem],
    folder: Path,
    faults: Sequence[Fault],
    *,
    kind: str,
    rate: float,
    console: Console,
    hurry: float = HURRY,
    **how: Any,
) -> list[Outcome]:
    """What became of each fault, and of the whole day, which is full, short or part of one; the report is in `folder`.
    `how`: of Day, what is not usual.

    Raises CannotStart, Faulty or NotInTime when the system cannot be started, or is not well before the first fault.
    """
    async with system as stage, contextlib.AsyncExitStack() as beside:
        record, expected = Record(), Expected()
        crowd = Crowd(stage, record, expected, rate=rate)
        day = Day(stage, record, expected, crowd, **how)
        if program := prometheus.installed():
            ports = {deployment.kind: deployment.admin_ports for deployment in stage.deployments}
            judge = await beside.enter_async_context(
                prometheus.running(program, stage.folder / "prometheus", stage.reaper, ports, stage.front.lookup, hurry)
            )
            day.judge_alerts = functools.partial(alerting.judged, judge)
        partners = Partners(stage, record, expected)
        await beside.enter_async_context(partners.at_work())
        day.judge_partners = functools.partial(partners.judged, crowd)
        await crowd.come()
        try:
            outcomes = await play(day, faults, lambda outcome: console.print(line(outcome), highlight=False))
        finally:
            await crowd.leave()
        outcomes.append(await reckoning(day))
        report.write(folder, day, outcomes, kind=kind)
        return outcomes


def keep_logs(place: Path, logs: Path) -> None:
    """Copy what processes and servers have said to where it outlives the day."""
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True, exist_ok=True)
    for log in (*place.rglob("log"), *place.rglob("*.log")):
        if log.is_file():
            shutil.copyfile(log, logs / (log.name if log.suffix else f"{log.parent.name}.log"))


if __name__ == "__main__":
    main()
