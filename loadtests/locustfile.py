"""Locust begins here: the run is prepared, counted and judged against the budget.

`locust --headless -f loadtests/locustfile.py`, from the repository's root, while `make up` runs. It ends by
itself, with status 0 when every SLI was kept, 1 when one was not, 2 when there was nothing to put load on.
"""

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import EventHook
from locust.runners import MasterRunner, WorkerRunner

from loadtests.codes import Shelf
from loadtests.profiles import CHANGE, WATCHING, Citizen, Office, Portal, Run, Visitor
from loadtests.target import House, NoHouse
from loadtests.verdict import BUDGET_FILE, DEFAULT_BUDGET, Budget, Tally, judge, passed, table

__all__ = ["Citizen", "Office", "Portal"]

DOSSIERS = "HOSO24_LOAD_DOSSIERS"
DEFAULTS = {
    "num_users": 60,
    "spawn_rate": 30.0,
    "run_time": "30s",
    "stop_timeout": "12",
    "only_summary": True,
    "web_host": "127.0.0.1",
}
"""Where neither the command line nor LOCUST_… says otherwise. No run is without end."""

Listener = TypeVar("Listener", bound=Callable[..., None])

budget = Budget.read(Path(os.environ.get(BUDGET_FILE) or DEFAULT_BUDGET))
tally = Tally()


def on(hook: EventHook) -> Callable[[Listener], Listener]:
    """Listen to one of Locust's events; their own decorator has no types."""
    return hook.add_listener


@on(events.init_command_line_parser)
def set_defaults(parser: LocustArgumentParser) -> None:
    parser.set_defaults(**DEFAULTS)


@on(events.init)
def find_house(environment: Environment, **_: Any) -> None:
    """Nothing begins without a house that answers."""
    try:
        house = House.from_environ(os.environ)
        statuses = house.statuses()
    except NoHouse as problem:
        _give_up(problem)
    environment.host = house.lookup
    Visitor.shared = Run(house, statuses, Shelf(house.samples), visible_within=budget.freshness_ms / 1000)


@on(events.test_start)
def fill_shelf(environment: Environment, **_: Any) -> None:
    """Each process that has visitors hands in dossiers for them to ask for. That is not counted."""
    tally.take()
    if isinstance(environment.runner, MasterRunner):
        return
    house = Visitor.shared.house
    shelf = Shelf(house.samples)
    try:
        for dossier in house.hand_in(int(os.environ.get(DOSSIERS) or 200)):
            shelf.put(dossier)
    except (NoHouse, ValueError) as problem:
        _give_up(problem)
    Visitor.shared.shelf = shelf


@on(events.request)
def count(
    request_type: str, response_time: float, exception: BaseException | None, context: Mapping[str, Any], **_: Any
) -> None:
    if request_type == CHANGE:
        tally.change(in_time=exception is None)
    elif exception is not None or not context.get(WATCHING):
        tally.answer(exception, quick=response_time < budget.latency_ms)


@on(events.user_error)
def count_own_fault(**_: Any) -> None:
    tally.errors += 1


@on(events.report_to_master)
def send_counts(data: dict[str, Any], **_: Any) -> None:
    data["tally"] = tally.take()


@on(events.worker_report)
def add_counts(data: Mapping[str, Any], **_: Any) -> None:
    tally.add(data["tally"])


@on(events.test_stop)
def show_verdict(environment: Environment, **_: Any) -> None:
    """With the web interface, after each test; without it, the one at the end is enough."""
    if environment.web_ui is not None:
        _print_verdict()


@on(events.quitting)
def judge_run(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner):
        return
    environment.process_exit_code = 0 if passed(judge(tally, budget)) else 1
    if environment.web_ui is None:
        # `quit` comes after Locust's own tables, so that the verdict is the last thing to be read.
        on(events.quit)(lambda **_: _print_verdict())


def _print_verdict() -> None:
    rows = judge(tally, budget)
    uncounted = f"\nNot counted: {tally.not_counted} answers refused by rate (429)." if tally.not_counted else ""
    print(f"\n{table(rows)}{uncounted}\n{'Within budget.' if passed(rows) else 'Not within budget.'}", flush=True)


def _give_up(problem: Exception) -> NoReturn:
    print(problem, file=sys.stderr, flush=True)
    sys.exit(2)
