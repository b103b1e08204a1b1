"""`python -m loadtests.rolling`: exit status 0 when every promise was kept, 1 when one was not, 2 without a run."""

import asyncio
import contextlib
import dataclasses
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from loadtests.rolling.run import HAPROXY, ROTATION, Plan, Run, explain, judge, rolling_restart, servers
from loadtests.system.processes import CannotMeasure, leave_on_signals, until_told_to_stop
from loadtests.system.replicas import Order
from loadtests.verdict import passed, table

USUAL = Plan()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--lookups", default=USUAL.lookups, help="Replace processes until so many were asked; a round is finished."
)
@click.option("--rate", default=USUAL.rate, help="Lookups a second at the most.")
@click.option("--citizens", default=USUAL.citizens, help="Connections they come over.")
@click.option("--desks", default=USUAL.desks, help="Submissions and moves under way at any time.")
@click.option("--changes-rate", default=USUAL.changes_rate, help="Dossiers taken in and moved, a second at the most.")
@click.option("--replicas", default=USUAL.replicas, type=click.IntRange(1, 8), help="Processes of each kind.")
@click.option("--order", default=USUAL.order.value, type=click.Choice([order.value for order in Order]), help="Of two.")
@click.option(
    "--front",
    default=USUAL.front,
    type=click.Choice([ROTATION, HAPROXY]),
    help="Who chooses a process: clients by themselves, or HAProxy before them, which keeps connections of its own.",
)
@click.option("--notice", default=USUAL.notice, help="Seconds until a fallen readiness has got about.")
@click.option("--drain", default=USUAL.drain, help="HOSO24_DRAIN_SECONDS of the processes; has to be more than that.")
@click.option("--at-most", default=USUAL.at_most, help="Seconds after which the run is given up.")
@click.option(
    "--up",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The .hoso24 of a running `hoso24 up --servers-only`; else servers are started for the run.",
)
def main(up: Path | None, order: str, **sizes: Any) -> None:
    """Replace every lookup, intake and relay under load, and say whether anybody noticed."""
    leave_on_signals()
    plan = dataclasses.replace(USUAL, order=Order(order), **sizes)
    console = Console(stderr=True)
    logs = Path(tempfile.mkdtemp(prefix="hoso24-rolling-logs-"))
    try:
        with contextlib.ExitStack() as stack:
            if up is None:
                console.print("Starting Postgres and Valkey …")
                up = stack.enter_context(servers())
            run = _run(plan, up, logs, console)
            leave_on_signals()  # the loop had handlers of its own
    except CannotMeasure as reason:
        click.echo(str(reason), err=True)
        shutil.rmtree(logs)
        sys.exit(2)
    rows = judge(run)
    click.echo(table(rows))
    for line in explain(run):
        click.echo(line)
    kept = passed(rows)
    if kept:
        shutil.rmtree(logs)
    click.echo("Nobody noticed." if kept else f"Somebody noticed; the processes' logs are in {logs}.")
    sys.exit(0 if kept else 1)


def _run(plan: Plan, up: Path, logs: Path, console: Console) -> Run:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("starting", total=plan.lookups)

        def show(run: Run) -> None:
            progress.update(task, completed=min(run.lookups.total, plan.lookups), description=run.doing)

        return asyncio.run(until_told_to_stop(rolling_restart(plan, up, logs, show)))


if __name__ == "__main__":
    main()
