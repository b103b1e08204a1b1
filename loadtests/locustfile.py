"""Locust begins here: the run is prepared, counted and judged against the budget.

`locust --headless -f loadtests/locustfile.py --profile results-day`, from the repository's root, while `make up` runs.
It ends by itself, with status 0 when every SLI was kept, 1 when one was not, 2 when there was nothing to put load on.
The master of a distributed run prepares and judges; its workers only send visitors.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import gevent
from locust import LoadTestShape, events, runners
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.event import EventHook
from locust.runners import MasterRunner, WorkerRunner

from loadtests.codes import Dossier, Shelf
from loadtests.cold import make_cold
from loadtests.enumeration import Enumerator, Neighbour
from loadtests.partners import BusinessSystem, Follower
from loadtests.profiles import PROFILES, Profile
from loadtests.results_day import Announcer, Expectant
from loadtests.storm import LinkFollower
from loadtests.target import NoTarget, Target
from loadtests.verdict import BUDGET_FILE, DEFAULT_BUDGET, Budget, Counts, Row, judge, passed, table
from loadtests.visitors import (
    CHANGE,
    FROM_A_CACHE,
    WATCHING,
    WHO,
    Citizen,
    LocustRun,
    Office,
    Portal,
    SlowPhone,
    Visitor,
)

__all__ = [
    "Announcer",
    "BusinessSystem",
    "Citizen",
    "Enumerator",
    "Expectant",
    "Follower",
    "LinkFollower",
    "Neighbour",
    "Office",
    "Portal",
    "SlowPhone",
]

DOSSIERS = "HOSO24_LOAD_DOSSIERS"
REPORTS = Path(".hoso24") / "load"
"""Where Locust's HTML reports are kept, with the verdict beside."""
AT_ONCE = 8
"""Dossiers handed in at once before a run."""
DEFAULTS = {
    "profile": "steady",
    "stop_timeout": "25",
    "only_summary": True,
    "web_host": "127.0.0.1",
}
"""Where neither the command line nor LOCUST_… says otherwise. A slow phone may take twenty seconds to hang up."""

HAND_OUT, NINE = "dossiers", "nine"
"""Messages to the processes that send visitors: what there is to ask for, and that it is nine o'clock."""

# Seconds for which a worker may be silent. Three, as Locust has it, are too few for one short of processor time, whose
# visitors would then be sent once more from elsewhere.
runners.HEARTBEAT_LIVENESS = 20

Listener = TypeVar("Listener", bound=Callable[..., None])

budget = Budget.read(Path(os.environ.get(BUDGET_FILE) or DEFAULT_BUDGET))
counts = Counts()


def on(hook: EventHook) -> Callable[[Listener], Listener]:
    """Listen to one of Locust's events; their own decorator has no types."""
    return hook.add_listener


class Clock(LoadTestShape):
    """The profile's curve, from the moment the first visitor is there; the profile may be chosen for each test."""

    use_common_options = True
    seconds = 0.0
    """For how long there have been visitors."""

    def reset_time(self) -> None:
        """Begin anew, with the profile that is asked for now."""
        self._began: float | None = None
        self._struck = False
        self.seconds = 0.0
        _invite(self._environment)

    def tick(self) -> tuple[int, float] | None:
        """How many visitors there should be now; None when it is over."""
        profile, options, runner = _profile(self._environment), _options(self._environment), _runner(self._environment)
        if self._began is None and runner.user_count:
            self._began = time.monotonic()
        self.seconds = 0.0 if self._began is None else time.monotonic() - self._began
        over = self.seconds / options.run_time
        if profile.nine_at is not None and over >= profile.nine_at and not self._struck:
            self._struck = True
            runner.send_message(NINE)
        return None if over >= 1 else (max(1, round(options.num_users * profile.curve(over))), options.spawn_rate)

    @property
    def _environment(self) -> Environment:
        assert self.runner is not None  # Locust sets it before anything begins
        return self.runner.environment


@on(events.init_command_line_parser)
def set_defaults(parser: LocustArgumentParser) -> None:
    parser.set_defaults(**DEFAULTS)


@on(events.init)
def find_house(environment: Environment, **_: Any) -> None:
    """Nothing begins without a service that answers."""
    try:
        target = Target.from_environ(os.environ)
        statuses = target.statuses()
    except NoTarget as problem:
        _give_up(problem)
    environment.host = target.lookup
    Visitor.shared = LocustRun(target, statuses, Shelf(target.samples), visible_within=budget.freshness_ms / 1000)
    _runner(environment).register_message(HAND_OUT, take_dossiers)
    _runner(environment).register_message(NINE, strike_nine)
    if not isinstance(_runner(environment), MasterRunner):
        gevent.spawn(watch_lag)
    if not isinstance(_runner(environment), WorkerRunner):
        _fill_in(environment)
    if environment.web_ui is not None and environment.web_ui.app is not None:
        environment.web_ui.app.add_url_rule("/verdict", "verdict", lambda: (_verdict(environment), _PLAIN))


@on(events.test_start)
def prepare(environment: Environment, **_: Any) -> None:
    """Hand in dossiers for visitors to ask for, which is not counted, and make the service cold if that is due."""
    counts.take()
    if isinstance(_runner(environment), WorkerRunner):
        return
    profile, target = _profile(environment), Visitor.shared.target
    try:
        dossiers = _handed_in(target, int(os.environ.get(DOSSIERS) or profile.dossiers))
        if profile.cold:
            make_cold(target, os.environ)
    except (NoTarget, ValueError) as problem:
        _give_up(problem)
    walked = Enumerator in profile.visitors
    _runner(environment).send_message(HAND_OUT, {"dossiers": [asdict(each) for each in dossiers], "walked": walked})


def take_dossiers(environment: Environment, msg: Any) -> None:
    """Put on the shelf what was handed in; the samples lie below."""
    handed_in = [Dossier(**each) for each in msg.data["dossiers"]]
    shared = Visitor.shared
    shared.walked = msg.data["walked"]
    shared.nine.clear()
    shared.shelf = Shelf([*shared.target.samples, *handed_in])
    Announcer.waiting = list(handed_in)
    if offered := list(shared.shelf):
        Expectant.expect(handed_in or offered)
        Enumerator.begin_with(offered[-1].code)


def strike_nine(environment: Environment, msg: Any) -> None:
    """It is nine o'clock on results day."""
    Visitor.shared.nine.set()


@on(events.request)
def count(
    request_type: str, response_time: float, exception: BaseException | None, context: Mapping[str, Any], **_: Any
) -> None:
    tally = counts.of(context[WHO])
    if request_type == CHANGE:
        tally.change(in_time=exception is None)
    elif exception is not None or not context.get(WATCHING):
        tally.answer(exception, quick=response_time < budget.latency_ms)
        if FROM_A_CACHE in context:
            counts.came_from(context[WHO], int(time.time()), cache=context[FROM_A_CACHE])


@on(events.user_error)
def count_own_fault(**_: Any) -> None:
    counts.of("the load test").errors += 1


def watch_lag() -> NoReturn:
    """Note every tenth of a second how late this process is."""
    while True:
        due = time.monotonic() + 0.1
        gevent.sleep(0.1)
        counts.lag.note(max(0.0, time.monotonic() - due))


@on(events.report_to_master)
def send_counts(data: dict[str, Any], **_: Any) -> None:
    data["counts"] = counts.take()


@on(events.worker_report)
def add_counts(data: Mapping[str, Any], **_: Any) -> None:
    counts.add(data["counts"])


@on(events.test_stop)
def show_verdict(environment: Environment, **_: Any) -> None:
    """With the web interface, after each test; without it, the one at the end is enough."""
    if environment.web_ui is not None:
        print(f"\n{_verdict(environment)}", flush=True)


@on(events.quitting)
def judge_run(environment: Environment, **_: Any) -> None:
    if isinstance(_runner(environment), WorkerRunner):
        return
    environment.process_exit_code = 0 if passed(_rows(environment)) else 1
    if environment.web_ui is None:
        _keep(environment)
        # `quit` comes after Locust's own tables, so that the verdict is the last thing to be read.
        on(events.quit)(lambda **_: print(f"\n{_verdict(environment)}", flush=True))


def _options(environment: Environment) -> Any:
    """What the command line says; Locust's type has None for what is not run by the command."""
    return environment.parsed_options


def _runner(environment: Environment) -> Any:
    """Who runs the test, likewise."""
    return environment.runner


def _profile(environment: Environment) -> Profile:
    """The one asked for; in the web interface, that may be another one for each test."""
    name = _options(environment).profile or DEFAULTS["profile"]
    if name not in PROFILES:
        _give_up(NoTarget(f"There is no profile {name}; there are {', '.join(PROFILES)}."))
    return PROFILES[name]


def _fill_in(environment: Environment) -> None:
    """What the profile has and neither command line nor environment has set."""
    profile, options = _profile(environment), _options(environment)
    options.num_users = options.num_users or profile.users
    options.spawn_rate = options.spawn_rate or profile.spawn_rate
    options.run_time = options.run_time or profile.seconds
    if options.headless and not options.html_file:
        options.html_file = str(REPORTS / f"{profile.name}-{time.strftime('%Y%m%d-%H%M%S')}.html")


def _invite(environment: Environment) -> None:
    """The profile's visitors, in its proportions, unless the command line has named some."""
    if _options(environment).user_classes:
        return
    visitors = _profile(environment).visitors
    for visitor, weight in visitors.items():
        visitor.weight = weight
    environment.user_classes = list(visitors)


def _handed_in(target: Target, count: int) -> list[Dossier]:
    """So many new dossiers, handed in over several connections."""
    shares = [len(range(first, count, AT_ONCE)) for first in range(AT_ONCE)]
    tasks = [gevent.spawn(_share, target, share) for share in shares]
    found: list[Dossier] = []
    for dossiers in (task.get() for task in tasks):
        if isinstance(dossiers, NoTarget):
            raise dossiers
        found += dossiers
    return found


def _share(target: Target, count: int) -> list[Dossier] | NoTarget:
    """What came of it, a failure included: gevent prints one that is raised."""
    try:
        return list(target.hand_in(count))
    except NoTarget as problem:
        return problem


def _rows(environment: Environment) -> list[Row]:
    profile = _profile(environment)
    return [*judge(counts, budget, profile.uncounted), *profile.judge(counts), _whole(environment)]


def _whole(environment: Environment) -> Row:
    """Whether the run was all that it should be: what was cut short, or partly not added up, has not kept anything."""
    assert isinstance(environment.shape_class, Clock)
    runner, due = _runner(environment), _options(environment).run_time
    lost = len(runner.clients.missing) if isinstance(runner, MasterRunner) else 0
    seconds = min(environment.shape_class.seconds, due)
    return Row("run", f"{seconds:.0f} of {due} s; {lost} workers lost", "all of it", seconds >= due and not lost)


def _verdict(environment: Environment) -> str:
    profile, rows = _profile(environment), _rows(environment)
    lines = [f"{profile.name}: {profile.title}.", "", table(rows)]
    if refused := counts.refused():
        by = "; ".join(f"{who} {number:,}" for who, number in sorted(refused.items()))
        lines.append(f"Refused by rate (429), not counted: {by}.")
    lines.append(str(counts.lag))
    return "\n".join([*lines, "Within budget." if passed(rows) else "Not within budget."])


def _keep(environment: Environment) -> None:
    """The verdict beside Locust's report."""
    path = Path(_options(environment).html_file).with_suffix(".txt")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_verdict(environment) + "\n", "utf-8")


def _give_up(problem: Exception) -> NoReturn:
    print(problem, file=sys.stderr, flush=True)
    sys.exit(2)


_PLAIN = {"Content-Type": "text/plain; charset=utf-8"}
