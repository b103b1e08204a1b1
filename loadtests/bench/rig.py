"""What a case has at hand: a system full of dossiers, and a way to measure servers side by side.

Every run begins with a server just started, alone on its core, whose answers have been compared with the system's own
and which has been warmed up. Rounds are interleaved (A B C A B C …), so that whatever drifts on the machine meets all
of them.
"""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from loadtests.bench import load as wrk
from loadtests.bench.load import Figures, WrkLoad
from loadtests.bench.servers import OURS, BenchServer, Contestant
from loadtests.bench.usage import DISTURBED, Meter, Patience, Usage
from loadtests.system.computed_dossiers import SPARE, code
from loadtests.system.http_client import fetch
from loadtests.system.installation import Installation
from loadtests.system.processes import CannotMeasure

MANY = 100_000
"""Dossiers asked for where it matters that they are many and that Redis can hold them all."""

WARM_UP_SECONDS = 2.0
ATTEMPTS = 4
OK = 200
CHECKED = 4
"""Answers compared before each run: one of each status the dossiers are in."""


@dataclass(frozen=True)
class Run:
    """One measured run."""

    figures: Figures
    usage: Usage

    @property
    def disturbed(self) -> bool:
        """Whether others on the machine were busy meanwhile."""
        return self.usage.strangers > DISTURBED


@dataclass
class Series:
    """The runs of one server under one load. The figures of a series are medians over its runs."""

    case: str
    server: str
    connections: int
    runs: list[Run] = field(default_factory=list)
    discarded: int = 0
    """Runs measured again because others were busy meanwhile. Nothing else is a reason, and no error is discarded."""

    @property
    def rates(self) -> list[float]:
        """Answers a second, run by run."""
        return [run.figures.rate for run in self.runs]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return statistics.median(self.rates)

    @property
    def median(self) -> float:
        """Median latency in milliseconds."""
        return statistics.median(run.figures.median for run in self.runs)

    @property
    def p99(self) -> float:
        """The latency ninety-nine of a hundred keep within, in milliseconds."""
        return statistics.median(run.figures.p99 for run in self.runs)

    @property
    def disturbed(self) -> int:
        """How many of the runs others on the machine have disturbed."""
        return sum(run.disturbed for run in self.runs)

    @property
    def errors(self) -> int:
        """Errors of all runs together."""
        return sum(run.figures.errors for run in self.runs)

    @property
    def trouble(self) -> str:
        """The errors of each run that had any."""
        return "; ".join(run.figures.trouble for run in self.runs if run.figures.errors) or "none"


@dataclass(frozen=True)
class Judged:
    """One line of the table of ratios. `reached` is None where there is no goal."""

    case: str
    what: str
    figure: str
    goal: str = ""
    reached: bool | None = None


@dataclass(frozen=True)
class CaseOutcome:
    """What a case hands in: what was measured, and what that means. Both may be empty.

    `broken` and `usages`: errors and how busy the cores were where something was measured that is no series.
    """

    series: Sequence[Series]
    judged: Sequence[Judged]
    broken: int = 0
    usages: Sequence[Usage] = ()

    @property
    def errors(self) -> int:
        """Errors of all runs together."""
        return sum(series.errors for series in self.series) + self.broken


@dataclass(frozen=True)
class Rig:
    """`seconds` a run, `repeats` runs of each server; `dossiers` in the database, and spare ones behind them."""

    system: Installation
    dossiers: int
    seconds: float
    repeats: int
    patience: Patience
    say: Callable[[str], None]

    @property
    def spare(self) -> range:
        """Dossiers no measured run asks for."""
        return range(self.dossiers, self.dossiers + SPARE)

    @property
    def many(self) -> range:
        """The first hundred thousand."""
        return range(min(MANY, self.dossiers))

    @property
    def longest(self) -> float:
        """The longest a run may take that ends by itself when all is asked."""
        return 4 * self.seconds

    def side_by_side(
        self,
        case: str,
        contestants: Sequence[Contestant],
        load: WrkLoad,
        *,
        warm_up: WrkLoad,
        checked: range,
        before: Callable[[], None] = lambda: None,
        attempts: int = ATTEMPTS,
    ) -> dict[str, Series]:
        """Measure the contestants in turn; by name, what each did. `before` is called before each is started.

        A run that others on the machine have disturbed is measured again; of several attempts the least disturbed
        counts, whatever its figures.
        """
        series = {each.name: Series(case, each.name, load.connections) for each in contestants}
        for turn in range(1, self.repeats + 1):
            for contestant in contestants:
                own = series[contestant.name]
                tries: list[Run] = []
                while not tries or self._again(tries, attempts):
                    before()
                    with contestant.start() as server:
                        self._compare(contestant.name, server, checked)
                        self.patience.wait_for_quiet((self.system.pid, server.pid))
                        self.put(server, warm_up)
                        tries.append(self.measure(server, load.turn(turn)))
                    self._tell(case, contestant.name, load, turn, tries[-1])
                # An error is never left out, however busy others were.
                own.runs.append(min(tries, key=lambda run: (not run.figures.errors, run.usage.strangers)))
                own.discarded += len(tries) - 1
        return series

    def measure(self, server: BenchServer, load: WrkLoad) -> Run:
        """One run."""
        meter = Meter((self.system.pid, server.pid))
        figures = self.put(server, load)
        return Run(figures, meter.read())

    def put(self, server: BenchServer, load: WrkLoad) -> Figures:
        """The load, put on that server; how busy the cores are is not looked at."""
        return wrk.put(load, server.url, code(load.codes.start), self.system.folder)

    def fill(self, server: BenchServer) -> None:
        """Have the server asked for each of the many once. Raises CannotMeasure if one was not answered."""
        figures = self.put(server, WrkLoad("once", self.many, connections=64, seconds=len(self.many) / 500))
        if figures.errors or figures.answers != len(self.many):
            raise CannotMeasure(
                f"Of {len(self.many):,} codes asked for {figures.answers:,} were answered; {figures.trouble}."
            )

    def warming(self, load: WrkLoad) -> WrkLoad:
        """A short load of the same kind."""
        return replace(load, seconds=min(WARM_UP_SECONDS, self.seconds), seed=0)

    def _again(self, tries: Sequence[Run], attempts: int) -> bool:
        last = tries[-1]
        return last.disturbed and not last.figures.errors and len(tries) < attempts and self.patience.left > 0

    def _compare(self, name: str, server: BenchServer, checked: range) -> None:
        for each in map(code, checked[:CHECKED]):
            expected = json.loads(self.system.expected(each))
            answer = fetch(server.address(each))
            if answer.status != OK or json.loads(answer.body) != expected:
                raise CannotMeasure(
                    f"{name} does not do the same work: for {each} it answers "
                    f"{answer.status} {answer.body.decode(errors='replace')}, and the lookup {json.dumps(expected)}."
                )

    def _tell(self, case: str, name: str, load: WrkLoad, turn: int, run: Run) -> None:
        figures = run.figures
        trouble = f"; {figures.trouble}" if figures.errors else ""
        if run.disturbed:
            trouble += f"; disturbed, others took {run.usage.strangers:.0%} of a core"
        self.say(
            f"{case}, {turn} of {self.repeats}: {name} on {load.connections:,} connections: {figures.rate:,.0f}/s, "
            f"median {figures.median:.1f} ms, p99 {figures.p99:.1f} ms, longest {figures.longest:,.0f} ms{trouble}"
        )


def ratio(series: dict[str, Series], peer: str, goal: float | None = None) -> Judged:
    """Ours beside that peer's."""
    own, others = series[OURS], series[peer]
    return at_least(own.case, f"ours ÷ {peer}, {own.connections:,} connections", own.rate / others.rate, goal)


def at_least(case: str, what: str, ratio: float, goal: float | None = None) -> Judged:
    """A ratio that should be as large as its goal; without a goal it is only told."""
    if goal is None:
        return Judged(case, what, f"{ratio:.2f}")
    return Judged(case, what, f"{ratio:.2f}", f"at least {goal:g}", ratio >= goal)
