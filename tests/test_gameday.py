"""The game day: a short one of real processes and servers, and what its runner makes of what goes wrong."""

import asyncio
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from loadtests.answers import Answer
from loadtests.gameday.__main__ import chosen
from loadtests.gameday.day import SETTLED_SECONDS, WELL_AGAIN, Day, Fault, NotInTime, Outcome, Skipped, Timed, play
from loadtests.gameday.display import line
from loadtests.gameday.faults import FAULTS
from loadtests.gameday.faults.clock import Ages
from loadtests.gameday.faults.processes import Rolled
from loadtests.gameday.faults.redis import Delivered, out_of_order
from loadtests.gameday.faults.spike import AskedRounds, _became
from loadtests.gameday.promises import none_failed, nothing_wrong, quick
from loadtests.gameday.record import Record, Seen
from loadtests.gameday.usage import HeldResources, grown
from loadtests.system.processes import CannotMeasure
from loadtests.verdict import Row
from tests import programs

ROOT = Path(__file__).parent.parent
GOOD, BAD = Row("truth", "0", "0", kept=True), Row("truth", "1", "0", kept=False)
SHORT = [
    "healthy",
    "lookup-killed",
    "rolling-restart",
    "redis-killed",
    "redis-stopped",
    "redis-emptied",
    "postgres-killed",
    "relay-stopped",
    "tampered",
]
AT_MOST = 420.0
"""Seconds for a short day on a machine that has other things to do; by itself it takes three minutes."""


# -- a real one -------------------------------------------------------------------------------------------------------


async def game_day(folder: Path, *arguments: str) -> tuple[int | None, str]:
    """One in a process of its own, times told and not judged; its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "loadtests.gameday", "--untimed", "--rate", "60", "--folder", str(folder)),
        *arguments,
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(AT_MOST):
            printed, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()  # it ends what it has started
            await process.wait()
    return process.returncode, printed.decode()


@pytest.mark.servers
async def test_every_promise_is_kept_on_a_short_day(tmp_path: Path) -> None:
    """Promises about times are reported and not judged: the service cannot help how busy this machine is."""
    status, output = await game_day(tmp_path, "--short")
    assert status == 0, output
    faults = json.loads((tmp_path / "report.json").read_text("utf-8"))["faults"]
    assert [each["name"] for each in faults] == [*SHORT, "whole-day"]
    skipped = [each["name"] for each in faults if each["skipped"]]
    assert skipped == ([] if programs.find("prometheus") else ["healthy"])
    for each in faults:
        assert each["skipped"] or [row for row in each["promises"] if not row["timed"]], each
    assert (tmp_path / "report.md").stat().st_size > 0
    assert "Every promise was kept" in output


@pytest.mark.servers
async def test_rolling_restart_without_a_balancer_and_the_old_process_first(tmp_path: Path) -> None:
    status, output = await game_day(
        tmp_path,
        *("--only", "rolling-restart", "--order", "old-first", "--front", "rotation"),
    )
    assert status == 0, output
    (rolled, _) = json.loads((tmp_path / "report.json").read_text("utf-8"))["faults"]
    seen = {row["promise"]: row["seen"] for row in rolled["promises"]}
    assert int(seen["asked"].split()[0].replace(",", "")) > 0
    assert seen["lookups"].startswith("0 of ")
    assert {
        "changes",
        "acknowledged changes",
        "changes kept once",
        "changes visible",
        "processes",
        "relay",
    } <= seen.keys()


# -- the command ------------------------------------------------------------------------------------------------------


def test_faults_are_chosen_by_name_and_keep_their_order() -> None:
    assert [fault.name for fault in chosen(short=True, only=None)] == SHORT
    assert chosen(short=False, only=None) == list(FAULTS)
    two = [fault.name for fault in chosen(short=False, only="redis-full, lookup-killed")]
    assert two == ["lookup-killed", "redis-full"]
    with pytest.raises(CannotMeasure, match="no fault 'earthquake'"):
        chosen(short=False, only="earthquake")


def test_the_table_in_the_readme_is_the_list_of_faults() -> None:
    text = (ROOT / "loadtests" / "gameday" / "README.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z-]+)`:", text, re.MULTILINE) == [fault.name for fault in FAULTS]
    assert all(fault.title and fault.must_hold for fault in FAULTS)


# -- the runner -------------------------------------------------------------------------------------------------------


class Calm(Day):
    """A day without a system: it is well again as often as it is told."""

    def __init__(self, well: int = 100, *, judge_times: bool = True) -> None:
        nothing: Any = None
        super().__init__(nothing, Record(), nothing, nothing, judge_times=judge_times)
        self.well = well

    async def settled(self, within: float = SETTLED_SECONDS) -> float:
        self.well -= 1
        if self.well < 0:
            raise NotInTime("not within 90 s: a relay leads")
        return 0.5


def fault(name: str, *rows: Row, error: Exception | None = None) -> Fault:
    async def act(_: Day) -> list[Row]:
        if error is not None:
            raise error
        return list(rows)

    return Fault(name, name, "it holds", act)


async def played(day: Day, *faults: Fault) -> list[Outcome]:
    return await play(day, faults, lambda _: None)


async def test_what_was_kept_is_kept_and_what_was_not_is_not() -> None:
    day = Calm()
    outcomes = await played(day, fault("one", GOOD), fault("two", GOOD, BAD), fault("three"))
    assert [outcome.kept for outcome in outcomes] == [True, False, False], "what nothing was judged by is not kept"
    assert [row.sli for row in outcomes[0].rows] == ["truth", WELL_AGAIN]
    assert "NOT KEPT" in line(outcomes[1])
    assert "truth: 1, 0 was due" in line(outcomes[1])


async def test_a_metric_is_the_sum_of_the_samples_that_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    async def told(_: Any) -> list[tuple[str, dict[str, str], float]]:
        ways = (("redis", 1.0), ("redis-feed", 2.0), ("postgres", 4.0))
        samples = [("gone_total", {"dependency": way, "reason": "Refused"}, count) for way, count in ways]
        return [*samples, ("gone_total", {"dependency": "redis", "reason": "Timeout"}, 8.0), ("other", {}, 16.0)]

    monkeypatch.setattr(Day, "metrics", staticmethod(told))
    nothing: Any = None
    assert await Calm().metric(nothing, "gone_total") == 15.0
    assert await Calm().metric(nothing, "gone_total", dependency="redis") == 9.0
    assert await Calm().metric(nothing, "gone_total", dependency=("redis", "redis-feed"), reason="Refused") == 3.0
    assert await Calm().metric(nothing, "never_heard_of") == 0.0


async def test_a_fault_that_breaks_off_is_not_kept_and_the_day_goes_on() -> None:
    outcomes = await played(Calm(), fault("one", error=ValueError("no such key")), fault("two", GOOD))
    assert [outcome.kept for outcome in outcomes] == [False, True]
    assert outcomes[0].rows[0].figure == "ValueError: no such key"


async def test_what_is_missing_here_is_skipped_with_the_reason() -> None:
    (outcome,) = await played(Calm(), fault("one", error=Skipped("wrk is not installed")))
    assert (outcome.kept, outcome.skipped, outcome.rows) == (True, "wrk is not installed", [])
    assert "wrk is not installed" in line(outcome)


async def test_nothing_more_is_broken_once_the_system_does_not_get_well() -> None:
    outcomes = await played(Calm(well=2), fault("one", GOOD), fault("two", GOOD), fault("three", GOOD))
    assert [outcome.kept for outcome in outcomes] == [True, False, False]
    assert outcomes[1].rows[-1] == Row(
        WELL_AGAIN, "not within 90 s: a relay leads", "by itself within 90 s", kept=False
    )
    assert outcomes[2].rows == [Row("took place", "no: the system was not well before it", "yes", kept=False)]


async def test_a_system_that_is_not_well_is_not_broken_at_all() -> None:
    with pytest.raises(NotInTime):
        await played(Calm(well=0), fault("one", GOOD))


@pytest.mark.parametrize("judged", [True, False])
async def test_times_are_judged_or_only_told(judged: bool) -> None:
    late = Timed("p99", "400 ms", "under 250 ms", kept=False)
    (outcome,) = await played(Calm(judge_times=judged), fault("one", GOOD, late))
    assert outcome.kept is not judged
    assert isinstance(outcome.rows[1], Timed)
    (wrong,) = await played(Calm(judge_times=judged), fault("one", BAD, late))
    assert not wrong.kept


# -- the promises -----------------------------------------------------------------------------------------------------


def window(*seen: tuple[str, str, float]) -> Any:
    record = Record(monotonic=lambda: 100.0)
    for kind, outcome, seconds in seen:
        record.note(Seen(1.0, seconds, kind, outcome))
    return record.window(0.0)


ANSWERED = ("known", "good", 0.01)


@pytest.mark.parametrize(
    ("promise", "spoilt_by"),
    [
        (none_failed, ("known", "unavailable", 0.1)),
        (none_failed, ("page", "wrong", 0.1)),
        (nothing_wrong, ("unknown", "wrong", 0.1)),
        (nothing_wrong, ("move", "wrong", 0.1)),
        (lambda seen: quick(seen, 0.99, 0.25), ("known", "good", 0.3)),
    ],
)
def test_a_promise_is_kept_until_one_answer_breaks_it(
    promise: Callable[[Any], Row], spoilt_by: tuple[str, str, float]
) -> None:
    assert promise(window(ANSWERED)).kept
    assert not promise(window(ANSWERED, spoilt_by)).kept
    assert not promise(window()).kept


def test_the_stream_is_in_order_only_without_gap_double_or_leap() -> None:
    good = [Delivered("5-1", "4-0", "A", 1), Delivered("6-0", "5-1", "", 0), Delivered("7-1", "6-0", "A", 2)]
    assert out_of_order(good) == []
    assert out_of_order([good[0], good[2]]) != []
    assert out_of_order([*good, Delivered("8-1", "7-1", "A", 2)]) == ["A: version 2 comes after 2"]
    left_out = [*good, Delivered("8-1", "7-1", "A", 4)]
    assert out_of_order(left_out) == ["A: version 4 comes after 2"]
    assert out_of_order(left_out, newest_only=True) == []
    assert out_of_order([*left_out, Delivered("9-1", "8-1", "A", 4)], newest_only=True) != []


ROLLED = Rolled(
    due=10,
    asked=10,
    rounds=2,
    processes=7,
    replaced=14,
    handovers=2,
    refused=0,
    longest_stop=1.0,
    repeated=3,
    otherwise=0,
    changed=5,
    not_shown="",
)


@pytest.mark.parametrize(
    ("spoilt", "promise"),
    [
        ({"asked": 9}, "asked"),
        ({"replaced": 13}, "processes"),
        ({"handovers": 1}, "relay"),
        ({"refused": 1}, "connections"),
        ({"otherwise": 1}, "changes kept once"),
        ({"repeated": 0}, "changes kept once"),
        ({"not_shown": "lookup 2 does not show A at version 3"}, "changes visible"),
        ({"changed": 0}, "changes visible"),
    ],
)
def test_each_promise_of_a_rolling_restart_is_broken_alone(spoilt: dict[str, Any], promise: str) -> None:
    assert all(row.kept for row in ROLLED.rows())
    assert [row.sli for row in dataclasses.replace(ROLLED, **spoilt).rows() if not row.kept] == [promise]


@pytest.mark.parametrize(
    ("refused", "in_order"),
    [
        ((), True),
        (("batch",), True),
        (("batch", "unknown", "cold"), True),
        (("unknown",), False),
        (("batch", "cold"), False),
        (("batch", "unknown", "cold", "memory"), False),
    ],
)
def test_what_may_wait_has_to_be_refused_first(refused: tuple[str, ...], in_order: bool) -> None:
    of_one = {kind: "refused" if kind in refused else "answered" for kind in ("batch", "unknown", "cold", "memory")}
    assert AskedRounds([of_one] * 5).in_order() is in_order
    assert not AskedRounds([of_one] * 4).in_order(), "too few to tell"


def test_batch_that_was_let_in_counts_as_refused_when_one_of_its_dossiers_was() -> None:
    def batch(*results: dict[str, Any]) -> Answer:
        return Answer(200, {"content-type": "application/json"}, json.dumps({"results": results}).encode())

    assert _became("batch", batch({"code": "A", "dossier": {}})) == "answered"
    assert _became("batch", batch({"code": "A", "dossier": {}}, {"code": "B", "error": "overloaded"})) == "refused"


def test_one_round_may_be_out_of_order_and_no_two() -> None:
    def of(*refused: str) -> dict[str, str]:
        return {kind: "refused" if kind in refused else "answered" for kind in ("batch", "unknown", "cold", "memory")}

    usual, upside_down = of("batch", "unknown"), of("unknown")
    assert AskedRounds([usual] * 9 + [upside_down, of("batch")]).in_order()
    assert not AskedRounds([usual] * 9 + [upside_down] * 2 + [of("batch")] * 2).in_order()
    assert not AskedRounds([usual] * 9 + [upside_down]).in_order(), "more unknown ones than batches in all"


def test_what_is_neither_answered_nor_refused_is_told() -> None:
    assert AskedRounds([{"batch": "refused", "unknown": "answered 404", "cold": "answered"}]).otherwise == [
        "unknown: answered 404"
    ]


def test_ages_are_compared_pair_by_pair() -> None:
    ages = Ages([(0, 0), (4, 5), (300, 6)])
    assert (ages.apart, ages.oldest) == (294, 300)


def test_what_a_process_holds_on_to_is_noticed() -> None:
    before = {"lookup 1": HeldResources(20, 3, 10, 0)}
    assert grown(before, {"lookup 1": HeldResources(30, 3, 12, 0)}, allowance=10) == []
    assert grown(before, {"lookup 1": HeldResources(31, 3, 10, 0)}, allowance=10) == [
        "lookup 1: 31 descriptors, 20 before"
    ]
    assert grown(before, {"lookup 1": HeldResources(0, 0, 0, 0)}, allowance=10) == ["lookup 1 does not answer"]
    assert grown(before, {"lookup 2": HeldResources(20, 3, 10, 0)}, allowance=10) == ["lookup 1 is not there any more"]
