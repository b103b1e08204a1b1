"""The benchmark's own words and arithmetic: what it has copied from the service is the same, and it judges right."""

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import unittest.mock
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import asyncpg
import psutil
import pytest

from loadtests.bench import conditions, flood, prober, resident, results, side_by_side
from loadtests.bench.arrivals import Arrivals, Flood, Report, Requests, percentile
from loadtests.bench.cases import CASES, gate, memory, overload, pages, visible
from loadtests.bench.load import Figures, WrkLoad, _figures
from loadtests.bench.peers.answer import STATUSES, answer
from loadtests.bench.probe import ChangesSeen, Probe
from loadtests.bench.rig import CaseOutcome, Judged, Rig, Run, Series, ratio
from loadtests.bench.side_by_side import read_options
from loadtests.bench.usage import Usage
from loadtests.system import computed_dossiers
from loadtests.system.processes import CannotMeasure
from loadtests.system.samplers import is_alive, memory_of, queries_of, sampled
from lookup import code as codes
from lookup.situation import completion
from lookup.status import Status
from tests.conftest import Database

QUIET = Usage(0.9, 0.5, 0.0)


def run(rate: float, *, refused: int = 0, strangers: float = 0.0) -> Run:
    return Run(Figures(int(rate), 1.0, 1.0, 2.0, 3.0, refused, 0, 0), Usage(0.9, 0.5, strangers))


def series(server: str, *rates: float) -> Series:
    return Series("hot", server, 64, [run(rate) for rate in rates])


def test_peers_know_the_same_statuses() -> None:
    known = {each.value: (each.slug, each.final, completion(each, True, ("received", "processing"))) for each in Status}
    assert known == STATUSES


def test_computed_codes_are_canonical() -> None:
    for n in (0, 9_999, 10_000, 250_000, 999_999, computed_dossiers.MOST - 1):
        code = codes.parse(computed_dossiers.code(n))
        assert (code.text, code.scheme) == (computed_dossiers.code(n), codes.Scheme.B)


async def test_rows_written_have_the_computed_codes(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(computed_dossiers, "SPARE", 20)
    owner: Any = await asyncpg.connect(database.owner_url)
    try:
        await computed_dossiers.write(owner, 12_000)
        written = {row["code"] for row in await owner.fetch("SELECT code FROM dossier")}
        one = await owner.fetchrow(
            "SELECT code, version, status FROM dossier WHERE code = $1", computed_dossiers.code(5)
        )
    finally:
        await owner.close()
    assert written == {computed_dossiers.code(n) for n in range(12_020)}
    assert b'"status":"supplement_required","status_number":5,' in answer(one)


async def test_moved_dossier_is_as_the_intake_would_have_moved_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(computed_dossiers, "SPARE", 1)
    owner: Any = await asyncpg.connect(database.owner_url)
    writer: Any = await asyncpg.connect(database.writer_url)
    try:
        await computed_dossiers.write(owner, 4)
        assert [await computed_dossiers.move(writer, 4, name) for name in ("one", "two")] == [4, 5]
        dossier = await owner.fetchrow(
            "SELECT version, status, timeline FROM dossier WHERE code = $1", computed_dossiers.code(4)
        )
        events = await owner.fetch("SELECT code, version, kind, status, department, bulk FROM event ORDER BY version")
    finally:
        await writer.close()
        await owner.close()
    assert (dossier["version"], dossier["status"]) == (5, 4)
    before, *_, last = json.loads(dossier["timeline"])
    assert last | {"at": ""} == before | {"at": "", "status": "processing", "department": "two"}
    # By Vietnam's clock, as all steps are.
    assert abs((datetime.fromisoformat(last["at"]) - datetime.now(UTC)).total_seconds()) < 60
    assert [tuple(event) for event in events] == [
        (computed_dossiers.code(4), 4, "moved", 4, "one", False),
        (computed_dossiers.code(4), 5, "moved", 4, "two", False),
    ]


def test_ratio_is_of_medians() -> None:
    judged = ratio({"ours": series("ours", 10, 400, 300), "peer": series("peer", 100, 150, 900)}, "peer", 2.0)
    assert (judged.figure, judged.goal, judged.reached) == ("2.00", "at least 2", True)


def test_ratio_below_its_goal_is_short() -> None:
    judged = ratio({"ours": series("ours", 199), "peer": series("peer", 100)}, "peer", 2.0)
    assert judged.reached is False


@pytest.mark.parametrize(
    ("ratios", "figure", "reached"),
    [
        ([1.0] * 15, "1.000 (1.000 – 1.000)", True),
        ([1.0] * 4 + [1.2] * 11, "1.200 (1.000 – 1.200)", True),
        ([1.0] * 3 + [1.2] * 12, "1.200 (1.200 – 1.200)", False),
    ],
)
def test_gate_fails_when_the_whole_interval_lies_beyond_it(ratios: list[float], figure: str, reached: bool) -> None:
    load = WrkLoad("constant", range(1), 64, 2.0)
    judged = gate.Gate("hot", load, 1.03, rounds=[(2e-5 * ratio, 2e-5) for ratio in ratios]).judged()
    assert (judged.figure, judged.goal, judged.reached) == (figure, "at most 1.03", reached)


@pytest.mark.parametrize(
    ("ratios", "figure", "reached"),
    [
        ([0.7] * 9, "0.70 (0.70 – 0.70)", True),
        ([0.5] * 7 + [0.7] * 2, "0.50 (0.50 – 0.70)", True),
        ([0.5] * 8 + [0.7], "0.50 (0.50 – 0.50)", False),
        ([0.5, 0.5, 0.7], "0.50 (0.50 – 0.70)", True),
    ],
)
def test_page_is_too_slow_when_the_whole_interval_lies_below_the_floor(
    ratios: list[float], figure: str, reached: bool
) -> None:
    load = WrkLoad("constant", range(1), 64, 2.0)
    judged = pages.Pair("hot", load, load, 0.6, 0.75, rounds=[(2e-5 * ratio, 2e-5) for ratio in ratios]).judged()
    assert (judged.figure, judged.goal, judged.reached) == (figure, "at least 0.60, aim 0.75", reached)


def test_each_page_is_measured_beside_json_of_the_same_dossiers() -> None:
    rig = Rig(cast(Any, None), 100_000, 10.0, 3, cast(Any, None), print)
    for pair in pages.pairs(rig):
        assert (pair.json.codes, pair.json.script, pair.json.seconds) == (pair.page.codes, pair.page.script, 2.0)
        assert (pair.json.missing, pair.json.connections) == (pair.page.missing, pair.page.connections)
        assert any("gzip" in header for header in pair.page.headers)
        assert (pair.page.address or pair.page.path).startswith("/tra-cuu")
        assert (pair.json.address or pair.json.path).startswith("/api/v1/dossiers/")
        assert pair.floor <= pair.aim <= 1


def test_answer_that_should_be_a_404_and_is_none_is_an_error() -> None:
    report = {"answers": 10, "microseconds": 1, "median": 1, "p99": 1, "longest": 1, "status": 10}
    report |= dict.fromkeys(("connect", "read", "write", "timeout"), 0)
    found, missing = (WrkLoad("constant", range(1), 64, 2.0, missing=each) for each in (False, True))
    assert [_figures(report, each).errors for each in (found, missing)] == [10, 0]
    assert [_figures(report | {"status": 7}, each).errors for each in (found, missing)] == [7, 3]
    assert _figures(report | {"status": 7}, missing).trouble == "3 not 2xx"


def test_errors_of_a_run_are_counted_and_written(tmp_path: Path) -> None:
    outcome = CaseOutcome([Series("hot", "ours", 64, [run(100), run(100, refused=3)])], [])
    assert outcome.errors == 3
    results.write(tmp_path / "results.md", [outcome], {"date": "today"})
    assert "| 3 not 2xx |" in (tmp_path / "results.md").read_text("utf-8")


def test_disturbed_run_is_marked() -> None:
    assert Series("hot", "ours", 64, [run(100), run(100, strangers=0.2)]).disturbed == 1


def test_impossible_options_are_refused() -> None:
    for arguments in (["--cases", "warm,lukewarm"], ["--dossiers", "4000000"], ["--repeats", "0"]):
        with pytest.raises(SystemExit):
            read_options(arguments)


# -- an open loop ----------------------------------------------------------------------------------------------


def arrivals(rate: float = 10, seconds: float = 1, patience: float = 0.25, queue: int | None = None) -> Arrivals:
    return Arrivals(Flood([1], 0, 1000, rate, seconds, connections=1, queue=queue, patience=patience))


def test_no_request_is_taken_before_its_arrival() -> None:
    ten = arrivals()
    assert [ten.take(0.0), ten.take(0.05), ten.take(0.1), ten.take(0.1)] == [0, None, 1, None]


def test_whoever_waits_is_taken_in_order_and_only_while_waiting() -> None:
    ten = arrivals()
    assert [ten.take(0.5) for _ in range(4)] == [3, 4, 5, None]  # 0, 1 and 2 came before 0.25 and have gone


def test_whoever_finds_the_queue_full_is_turned_away() -> None:
    ten = arrivals(patience=0.35, queue=2)
    assert [ten.take(0.3) for _ in range(3)] == [0, 1, None]  # 2 and 3 came while those two waited
    assert [ten.take(0.5), ten.take(0.91)] == [4, 6]  # 5 has given up; 8 and 9 came while 6 and 7 waited
    assert ten.report(0, 0).turned_away == 4


def test_no_request_comes_after_the_last() -> None:
    ten = arrivals()
    assert [ten.take(1.0) for _ in range(3)] == [8, 9, None]
    assert not ten.over
    ten.settle(8, 200, 1.0)
    ten.settle(9, 200, 1.01)
    assert ten.over


def test_all_gave_up_is_over() -> None:
    ten = arrivals()
    assert ten.take(99.0) is None
    assert ten.over
    assert ten.report(0, 0).given_up == 10


def test_arrivals_are_partitioned() -> None:
    ten = arrivals()
    assert [ten.take(n / 10) for n in range(7)] == list(range(7))  # and the last three never find a connection
    for n, status in enumerate((200, 503, 429, 0, 404)):
        ten.settle(n, status, n / 10 + 0.02)
    ten.settle(5, 200, 0.5 + 0.26)  # too late; and the sixth is never answered
    report = ten.report(lag=0.002, busy=0.5)
    assert (report.arrivals, report.sent, report.good, report.broken) == (10, 7, 1, 2)
    assert (report.turned_away, report.given_up) == (0, 5)
    assert report.refused == {"429": 1, "503": 1}
    assert report.median == pytest.approx(20)
    assert (report.lag, report.busy) == (2, 0.5)


def test_goodput_is_over_the_time_until_the_last_good_answer() -> None:
    ten = arrivals(patience=2)
    for n in range(10):
        ten.take(1.0)
        ten.settle(n, 200, 2.0)
    assert ten.report(0, 0).goodput == 5
    ten = arrivals(patience=2)
    ten.take(0.0)
    ten.settle(0, 200, 0.1)
    assert ten.report(0, 0).goodput == 1


def test_percentile_is_a_value_that_was_there() -> None:
    for share, value in ((0.5, 50), (0.99, 99), (1.0, 100), (0.001, 1)):
        assert percentile(range(100, 0, -1), share) == value
        assert percentile([], share) == 0


def test_requests_are_for_distinct_canonical_codes_until_all_were_asked() -> None:
    requests = Requests(first=9_990, count=40, seed=3)
    asked = [requests.nth(n).split()[1].rpartition(b"/")[2].decode() for n in range(80)]
    assert sorted(asked[:40]) == sorted(asked[40:]) == sorted(computed_dossiers.code(n) for n in range(9_990, 10_030))
    head, _, client = requests.about(5).partition(b" HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: ")
    assert head == b"GET /api/v1/dossiers/" + computed_dossiers.code(5).encode()
    assert 64 <= int(client.split(b".")[1]) <= 127
    assert client.endswith(b"\r\n\r\n")


# -- judging ---------------------------------------------------------------------------------------------------


def verdicts(judged: list[Judged]) -> list[bool | None]:
    return [each.reached for each in judged]


def test_growth_is_that_of_the_second_half() -> None:
    assert resident.growth([100, 200, 300, 300, 300, 300]) == 0
    assert resident.growth([100, 200, 300, 300, 300, 330]) == pytest.approx(0.1)
    assert resident.growth([100]) == 0
    assert resident.level(range(60), 1.0) == 54.5  # the last ten
    assert resident.level(range(60), 0.5) == 34.5


@pytest.mark.parametrize(
    ("good", "last", "alive", "reached"),
    [
        (25_500, 100, True, [True, True, True]),
        (25_499, 105, True, [False, True, False]),
        (30_000, 104, False, [True, False, True]),
    ],
)
def test_overload_is_judged(good: int, last: int, alive: bool, reached: list[bool]) -> None:
    report = Report(90_000, 80_000, good, {"429": 0, "503": 7}, 1, 0, 90_000 - good - 8, 30.0, 5.0, 9.0)
    endless = overload.Flooded(report, alive, [50, 100, 100, 100, 100, last], QUIET)
    short = dataclasses.replace(
        endless, report=dataclasses.replace(report, good=30_000, turned_away=20_000), alive=True
    )
    judged = overload.judge(1000, endless, short)
    assert verdicts(judged) == [*reached, None, None, None, None, None]
    assert judged[3].figure == f"{good:,} answered, 7 refused (503), {90_000 - good - 8:,} gave up, 1 broken"
    assert judged[5].figure == "1.00"
    assert "20,000 turned away by the queue" in judged[6].figure


def sightings(*took: float, missed: int = 0) -> ChangesSeen:
    seen = ChangesSeen(1.0, [list(took), [0.01] * len(took)], [0, missed])
    for n in range(len(took)):
        seen.changed(n / 200)
    return seen


@pytest.mark.parametrize(
    ("seen", "reached"),
    [
        (sightings(*[0.02] * 198, 0.5, 0.5), [True, True, True, True]),
        (sightings(*[0.02] * 197, 0.1, 0.1, 0.1), [False, True, True, True]),
        (sightings(*[0.02] * 200, missed=1), [True, True, False, True]),
        (sightings(*[0.02] * 189), [True, True, True, False]),
        (sightings(), [False, False, False, False]),
    ],
)
def test_visible_is_judged(seen: ChangesSeen, reached: list[bool]) -> None:
    report = Report(1000, 1000, 1000, {}, 0, 0, 0, 1.0, 1.0, 2.0)
    assert verdicts(visible.judge(ChangesSeen(**dataclasses.asdict(seen)), report)) == [*reached, None]


def test_changes_a_second_are_over_the_time_until_the_last_was_made() -> None:
    seen = ChangesSeen(1.0, [[]], [0])
    seen.changed(0.5)
    seen.changed(4.0)
    assert seen.rate == 0.5


def test_memory_is_judged_with_all_entries_only() -> None:
    empty = memory.Level(60_000_000, 1, 1_000)
    few, many = memory.Level(99_000_000, 40_001, 30_001_000), memory.Level(249_000_000, 200_000, 200_000_000)
    assert verdicts(memory.judge(empty, few, many)) == [None, None, True, None]
    assert memory.judge(empty, few, many)[1].figure == "975 ÷ 750 = 1.30"


def test_gauges_are_read_from_the_metrics() -> None:
    text = "# TYPE lookup_memory_copies gauge\nlookup_memory_copies 200000.0\nlookup_memory_bytes 1.89e+08\n"
    assert memory.gauge(text, "lookup_memory_copies") == 200_000
    assert memory.gauge(text, "lookup_memory_bytes") == 189_000_000
    assert memory.gauge(text, "lookup_memory") == -1


def test_case_without_a_series_is_written(tmp_path: Path) -> None:
    outcome = CaseOutcome([], [Judged("memory", "what", "1")], broken=2, usages=[Usage(1, 1, 0.5)])
    results.write(tmp_path / "results.md", [outcome], {})
    written = (tmp_path / "results.md").read_text("utf-8")
    assert "| memory | what | 1 | – | – |" in written
    assert "- **memory**: 200,000 dossiers" in written
    assert "## Measured" not in written
    assert outcome.errors == 2
    assert "at most 50%" in conditions.others([outcome])
    assert "at most 0%" in conditions.others([])


async def test_queries_in_flight_are_seen_and_so_is_a_sampler_that_cannot_look(database: Database) -> None:
    def busy() -> list[int]:
        with sampled(queries_of("bench", database.reader_url), 0.01) as looks:
            asyncio.run(sleeping(f"{database.reader_url}?application_name=bench"))
        return looks

    async def sleeping(url: str) -> None:
        connection: Any = await asyncpg.connect(url)
        await connection.execute("SELECT pg_sleep(0.5)")
        await connection.close()

    assert max(await asyncio.to_thread(busy)) == 1
    with pytest.raises(OSError, match="1"), sampled(queries_of("bench", "postgresql://x@127.0.0.1:1/x"), 0.01):
        pass


@pytest.mark.servers
def test_process_that_has_ended_is_not_alive_and_holds_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ended:
        process = psutil.Process(ended.pid)
        with memory_of(process) as look:
            assert (is_alive(process), look() > 0) == (True, True)
            assert ended.stdin is not None
            ended.stdin.close()
            os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
            assert (is_alive(process), look()) == (False, 0), "its parent has not asked how it ended"
        ended.wait()
        assert not is_alive(process)


# -- the generators, on a server of the test's own ---------------------------------------------------------------

Answers = Callable[[bytes], bytes]
"""From a request's head and body to what is sent back; nothing hangs up."""


def http(status: int, body: bytes = b"{}", *headers: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 %d X" % status, b"Content-Length: %d" % len(body), *headers, b"", body])


@contextlib.asynccontextmanager
async def serving(answers: Answers) -> AsyncIterator[int]:
    """A server that answers so; its port. The block has to hang up on it."""
    served: set[Any] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0] or 0)
                answer = answers(head + await reader.readexactly(length))
                writer.write(answer[:30])
                await asyncio.sleep(0)  # in two pieces
                writer.write(answer[30:])
                if not answer or b"Connection: close" in answer:
                    break
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.gather(*served)


async def flooded(answers: Answers, *, rate: float = 500, connections: int = 10, patience: float = 0.5) -> Report:
    async with serving(answers) as port:
        ingress = flood.Ingress(Flood([port], 0, 1000, rate, 0.2, connections, patience=patience))
        try:
            await ingress.open()
            async with asyncio.timeout(10):
                report: Report = await ingress.run()
        finally:
            await ingress.close()
    return report


def test_what_was_measured_is_written_though_a_later_case_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def furnished(*_: Any) -> Any:
        yield None

    def fails(_: Any) -> CaseOutcome:
        raise CannotMeasure("Nothing to be had.")

    written = CaseOutcome([], [Judged("hot", "ours ÷ a peer", "2.50")])
    cases = {
        "hot": dataclasses.replace(CASES["hot"], measure=lambda _: written),
        "memory": dataclasses.replace(CASES["memory"], measure=fails),
    }
    monkeypatch.setattr(side_by_side, "CASES", cases)
    monkeypatch.setattr(side_by_side, "furnished", furnished)
    monkeypatch.setattr(side_by_side, "conditions", lambda system, outcomes, options: {"runs": options})
    options = read_options(["--cases", "hot,memory", "--results", str(tmp_path / "results.md")])
    with pytest.raises(CannotMeasure):
        side_by_side.measure(options)
    text = (tmp_path / "results.md").read_text("utf-8")
    assert "ours ÷ a peer" in text
    assert text.rstrip().endswith("cases hot")


async def test_flood_tells_answers_apart() -> None:
    turn = iter(range(1000))

    def answers(request: bytes) -> bytes:
        return (http(200), http(503, b"busy" * 50), http(404), b"", http(200, b"{}", b"Connection: close"))[
            next(turn) % 5
        ]

    report = await flooded(answers)
    assert (report.arrivals, report.sent, report.good, report.refused["503"]) == (100, 100, 40, 20)
    assert (report.broken, report.given_up) == (40, 0)
    assert 0 < report.median < 500


async def test_flood_takes_garbage_for_a_broken_connection() -> None:
    report = await flooded(lambda _: b"SSH-2.0-OpenSSH_9.9 and more of it\r\n")
    assert (report.good, report.broken) == (0, 100)


async def test_flood_asks_for_each_dossier_once() -> None:
    requests: list[bytes] = []

    def answers(request: bytes) -> bytes:
        requests.append(request)
        return http(200)

    assert (await flooded(answers)).good == 100
    assert len({request.partition(b" HTTP")[0] for request in requests}) == 100


async def test_flood_goes_on_coming_without_answers() -> None:
    report = await flooded(lambda _: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", connections=3, patience=0.1)
    assert (report.arrivals, report.sent, report.good, report.given_up) == (100, 3, 0, 100)


async def test_prober_watches_each_change_until_both_lookups_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    versions: dict[bytes, int] = {}
    looks: dict[bytes, int] = {}

    async def move(writer: Any, number: int, department: str) -> int:
        version = versions[computed_dossiers.code(number).encode()] = 4
        return version

    def asked(request: bytes) -> bytes:
        return request.split(b"/")[4].split()[0]

    def slow(request: bytes) -> bytes:
        code = asked(request)
        looks[code] = looks.get(code, 0) + 1
        late = code == computed_dossiers.code(8).encode() or looks[code] < 4  # asked once before the change
        return http(200, b'{"version":%d}' % (3 if late else versions.get(code, 3)))

    def quick(request: bytes) -> bytes:
        return http(200, b'{"version":%d}' % versions.get(asked(request), 3))

    monkeypatch.setattr(prober, "move", move)
    writers = unittest.mock.MagicMock()
    async with serving(slow) as one, serving(quick) as two:
        probe = prober.Prober(Probe([one, two], 0, 40, 4, rate=50, seconds=0.2, patience=0.3), writers)
        try:
            await probe.open()
            async with asyncio.timeout(10):
                seen = await probe.run()
        finally:
            await probe.close()
    assert seen.made == 10
    assert ([len(took) for took in seen.took], seen.missed) == ([9, 10], [1, 0])
    assert seen.milliseconds(0, 0.5) > seen.milliseconds(1, 0.5) > 0
