"""The load test's own judgement: its checks see what is wrong, its verdict what is not kept, and it runs.

Locust patches the process that imports it. It is only ever run as one of its own.
"""

import asyncio
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from loadtests import answers
from loadtests.answers import Answer, Asked, Limited, Shown, Status, Unavailable, Wrong
from loadtests.codes import MISTYPED, Dossier, Seen, Shelf, new_number, spelled, unknown
from loadtests.target import House, NoHouse
from loadtests.verdict import Budget, Tally, judge, passed, table
from lookup import code as codes
from tests.house import House as RunningHouse

ROOT = Path(__file__).parent.parent
CODE = "G99.01.02-261008-0975"
STATUSES = {"processing": Status(4, False, 0.5, ("completed",)), "returned": Status(10, True, 1.0, ())}
FRESH = {"content-type": "application/json", "cache-control": "public, no-cache", "etag": '"2-json-1"', "age": "0"}
UNSTORED = {"content-type": "application/json", "cache-control": "no-store", "age": "90"}
PATIENT = """
availability.at_least = 0.9
latency = { at_least = 0.9, within_ms = 9000 }
freshness = { at_least = 0.5, within_ms = 4900 }
errors.at_most = 0
"""


def record(**changes: Any) -> dict[str, Any]:
    return {
        "code": CODE,
        "status": "processing",
        "status_number": 4,
        "final": False,
        "completion": 0.5,
        "due_at": None,
        "version": 2,
    } | changes


def answer(content: Any, headers: dict[str, str] = FRESH, status: int = 200) -> Answer:
    return Answer(status, headers, json.dumps(content).encode())


def tally(**counts: int) -> Tally:
    return Tally(**{"good": 10_000, "quick": 10_000, "fresh": 1000} | counts)


def kept(counts: Tally) -> dict[str, bool]:
    return {row.sli: row.kept for row in judge(counts, Budget.read())}


# -- the verdict ------------------------------------------------------------------------------------------------------


def test_budget_has_every_sli() -> None:
    assert Budget.read() == Budget(
        availability=0.9995, latency=0.99, latency_ms=100, freshness=0.99, freshness_ms=1000, errors=0
    )


@pytest.mark.parametrize("missing", ["availability", "latency", "freshness", "errors"])
def test_budget_without_an_sli_is_refused(tmp_path: Path, missing: str) -> None:
    path = tmp_path / "budget.toml"
    path.write_text("\n".join(line for line in PATIENT.splitlines() if not line.startswith(missing)))
    with pytest.raises(KeyError, match=missing):
        Budget.read(path)


def test_run_that_keeps_everything_passes() -> None:
    assert kept(tally()) == {"availability": True, "latency": True, "freshness": True, "errors": True}


def test_run_in_which_nothing_was_counted_keeps_nothing() -> None:
    assert kept(Tally()) == {"availability": False, "latency": False, "freshness": False, "errors": False}


@pytest.mark.parametrize(
    ("at_the_limit", "beyond", "sli"),
    [
        (tally(good=9995, bad=5), tally(good=9994, bad=6), "availability"),
        (tally(quick=9900, slow=100), tally(quick=9899, slow=101), "latency"),
        (tally(fresh=990, late=10), tally(fresh=989, late=11), "freshness"),
        (tally(errors=0), tally(errors=1), "errors"),
    ],
)
def test_each_sli_fails_alone_just_beyond_its_budget(at_the_limit: Tally, beyond: Tally, sli: str) -> None:
    assert passed(judge(at_the_limit, Budget.read()))
    assert [name for name, was_kept in kept(beyond).items() if not was_kept] == [sli]


def test_run_without_a_single_change_fails_for_freshness() -> None:
    assert [name for name, was_kept in kept(tally(fresh=0)).items() if not was_kept] == ["freshness"]


def test_share_that_misses_its_budget_is_not_rounded_up_to_it() -> None:
    rows = judge(tally(good=99_949_999, bad=50_001), Budget.read())
    assert rows[0].figure.startswith("99.949 %")
    assert not rows[0].kept


def test_table_is_aligned() -> None:
    lines = table(judge(tally(errors=3), Budget.read())).splitlines()
    assert lines[0].split() == ["SLI", "figure", "budget", "verdict"]
    assert (
        len({line.index(column) for line, column in zip(lines[2:], ["pass", "pass", "pass", "FAIL"], strict=True)}) == 1
    )


def test_answers_are_counted_by_what_was_wrong_with_them() -> None:
    counts = Tally()
    counts.answer(None, quick=True)
    counts.answer(Wrong("another dossier"), quick=False)
    counts.answer(Unavailable("answered 503"), quick=True)
    counts.answer(Limited("answered 429"), quick=True)
    counts.change(in_time=False)
    assert counts == Tally(good=1, bad=2, not_counted=1, quick=1, slow=1, late=1, errors=1)


def test_what_one_process_counted_is_added_to_another_once() -> None:
    here, there = tally(), tally(errors=2)
    here.add(there.take())
    here.add(there.take())
    assert here == tally(good=20_000, quick=20_000, fresh=2000, errors=2)


# -- what is right, and what is not -----------------------------------------------------------------------------------


def test_right_answers_are_accepted() -> None:
    assert answers.record(answer(record()), CODE, STATUSES) == Shown(CODE, 2, "processing", False, '"2-json-1"')
    stale = record(stale=True, as_of="2026-10-08T09:00:00+07:00")
    assert answers.record(answer(stale, UNSTORED), CODE, STATUSES).stale


@pytest.mark.parametrize(
    ("content", "headers", "name"),
    [
        (record(code="G99.01.02-261008-0976"), FRESH, "another dossier"),
        (record(stale=True), UNSTORED, "stale without as_of"),
        (record(as_of="2026-10-08T09:00:00+07:00"), FRESH, "stale without as_of"),
        (record(stale=True, as_of="2026-10-08T09:00:00+07:00"), FRESH, "stale answer that may be stored"),
        (record(), FRESH | {"age": "61"}, "older than the soft age"),
        (record(), UNSTORED | {"age": "0"}, "cannot be asked for again"),
        (record(status="lost"), FRESH, "not published"),
        (record(completion=0.9), FRESH, "not those of the status"),
        (record(timeline=[]), FRESH, "not for this visitor"),
        (record(applicant={"name": "Nguyễn Văn Mẫu"}), FRESH, "not for this visitor"),
        ({"code": CODE}, FRESH, "fields are missing"),
        (record(), FRESH | {"content-type": "text/html"}, "not JSON"),
    ],
)
def test_wrong_record_is_noticed(content: dict[str, Any], headers: dict[str, str], name: str) -> None:
    with pytest.raises(Wrong, match=name):
        answers.record(answer(content, headers), CODE, STATUSES)


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (0, {}, Unavailable),
        (429, {}, Limited),
        (503, {"retry-after": "1"}, Unavailable),
        (503, {}, Wrong),
        (500, {}, Wrong),
        (404, {}, Wrong),
    ],
)
def test_answer_of_another_status_is_no_good_one(status: int, headers: dict[str, str], kind: type[Exception]) -> None:
    with pytest.raises(kind):
        answers.record(Answer(status, headers), CODE, STATUSES)


def test_version_that_goes_backwards_is_noticed_unless_marked_stale() -> None:
    seen = Seen()
    seen.note(Shown(CODE, 3, "processing", stale=False))
    seen.note(Shown(CODE, 2, "processing", stale=True))
    with pytest.raises(Wrong, match="backwards"):
        seen.note(Shown(CODE, 2, "processing", stale=False))


def test_visitor_remembers_no_more_than_there_is_room_for() -> None:
    seen = Seen(room=2)
    for code in ("a", "b", "c"):
        seen.note(Shown(code, 5, "processing", stale=False))
    seen.note(Shown("a", 1, "processing", stale=False))
    with pytest.raises(Wrong, match="backwards"):
        seen.note(Shown("c", 1, "processing", stale=False))


@pytest.mark.parametrize(
    "again",
    [
        Answer(304, {"etag": '"3-json-1"'}),
        Answer(304, {"etag": '"2-json-1"'}, b"{}"),
        answer(record()),
    ],
    ids=["another ETag", "a body", "in full, unchanged"],
)
def test_wrong_answer_to_a_condition_is_noticed(again: Answer) -> None:
    before = Shown(CODE, 2, "processing", False, '"2-json-1"')
    assert answers.asked_again(Answer(304, {"etag": '"2-json-1"'}), before, STATUSES) == before
    with pytest.raises(Wrong):
        answers.asked_again(again, before, STATUSES)


def test_batch_is_checked_item_by_item_and_in_order() -> None:
    asked = [Asked(CODE.lower(), CODE), Asked("Z99.99.99-261008-0001", None)]
    right = [
        {"code": CODE.lower(), "dossier": record()},
        {"code": "Z99.99.99-261008-0001", "error": "dossier_not_found"},
    ]
    assert answers.batch(answer({"results": right}), asked, STATUSES) == [Shown(CODE, 2, "processing", False)]
    found = [right[0], {"code": "Z99.99.99-261008-0001", "dossier": record()}]
    lost = [{"code": CODE.lower(), "error": "dossier_not_found"}, right[1]]
    for results in (right[::-1], right[:1], found, lost):
        with pytest.raises(Wrong):
            answers.batch(answer({"results": results}), asked, STATUSES)


def test_refusal_for_another_reason_is_noticed() -> None:
    headers = {"content-type": "application/problem+json", "cache-control": "no-store"}
    content = {"code": "malformed_code", "status": 400}
    assert answers.problem(answer(content, headers, 400), 400, "malformed_code") == content
    with pytest.raises(Wrong, match="another reason"):
        answers.problem(answer(content, headers, 400), 400, "malformed_key")


def test_repeat_must_be_the_first_answer_to_the_letter() -> None:
    with pytest.raises(Wrong, match="repeat"):
        answers.repeated(answer(record(), status=201), 201, record(due_at="2026-10-20T17:00:00+07:00"))


def test_change_must_make_the_next_version() -> None:
    with pytest.raises(Wrong, match="another version"):
        answers.changed(answer({"version": 4}), CODE, 3)


# -- codes ------------------------------------------------------------------------------------------------------------


def test_every_spelling_is_one_of_the_same_code() -> None:
    for code in (CODE, "000.00.01.G22-200316-0001", "01234/2026/99901"):
        assert {codes.parse(spelled(code)).text for _ in range(200)} == {code}


def test_invented_codes_are_what_they_are_said_to_be() -> None:
    assert codes.parse(unknown()).agency == "Z99.99.99"
    assert codes.parse(new_number()).scheme is codes.Scheme.D
    for typed in MISTYPED:
        with pytest.raises(codes.MalformedCode):
            codes.parse(typed)


def test_shelf_keeps_the_newest_and_offers_all_it_has() -> None:
    shelf = Shelf((Dossier(str(number), "", "received") for number in range(5)), room=3)
    assert len(shelf) == 3
    assert {shelf.pick().code for _ in range(500)} == {"2", "3", "4"}


# -- where the load goes ----------------------------------------------------------------------------------------------


def up_file(folder: Path, lookup: str, intake: str, token: str | None = None, samples: Sequence[object] = ()) -> str:
    path = folder / "up.json"
    path.write_text(json.dumps({"lookup": lookup, "intake": intake, "token": token or "none", "samples": samples}))
    return str(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "[::1]"])
def test_this_machine_may_be_put_under_load(tmp_path: Path, host: str) -> None:
    up = up_file(tmp_path, f"http://{host}:8080/", f"http://{host}:8090")
    assert House.from_environ({"HOSO24_LOAD_UP": up}).lookup == f"http://{host}:8080"


@pytest.mark.parametrize("host", ["192.0.2.1", "lookup.example", "127.0.0.1.example", "128.0.0.1", "[2001:db8::1]"])
def test_another_machine_only_if_it_is_named(tmp_path: Path, host: str) -> None:
    up = up_file(tmp_path, "http://127.0.0.1:8080", f"http://{host}:8090")
    with pytest.raises(NoHouse, match="not this machine"):
        House.from_environ({"HOSO24_LOAD_UP": up, "HOSO24_LOAD_HOSTS": "other.example"})
    named = f"other.example, {host.strip('[]')}"
    assert House.from_environ({"HOSO24_LOAD_UP": up, "HOSO24_LOAD_HOSTS": named}).intake == f"http://{host}:8090"


def test_file_of_another_shape_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "up.json").write_text('{"lookup": "http://127.0.0.1:8080"}')
    with pytest.raises(NoHouse, match="cannot be read"):
        House.from_environ({"HOSO24_LOAD_UP": str(tmp_path / "up.json")})


# -- a real run -------------------------------------------------------------------------------------------------------


async def locust(*arguments: str, **environ: str) -> tuple[int | None, str]:
    """Locust in a process of its own; its exit status and everything it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOCUST_", "HOSO24_"))}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", "--headless", "-f", "loadtests/locustfile.py", *arguments),
        cwd=ROOT,
        env=inherited | environ,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout=90)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, output.decode()


async def test_short_run_on_a_running_house_is_within_budget(house: RunningHouse, tmp_path: Path) -> None:
    samples = [
        {"code": receipt["code"], "key": receipt["lookup_key"], "status": receipt["status"]}
        for receipt in [await house.receive() for _ in range(3)]
    ]
    (tmp_path / "budget.toml").write_text(PATIENT)
    status, output = await locust(
        *("--users", "5", "--run-time", "5s"),
        HOSO24_LOAD_UP=up_file(tmp_path, house.lookup_url, house.intake_url, house.token, samples),
        HOSO24_LOAD_BUDGET=str(tmp_path / "budget.toml"),
        HOSO24_LOAD_DOSSIERS="10",
    )
    assert status == 0, output
    assert re.findall(r"^(\w+) .* pass$", output, re.MULTILINE) == ["availability", "latency", "freshness", "errors"]
    assert output.endswith("Within budget.\n")


async def test_run_that_is_answered_wrongly_fails(house: RunningHouse, tmp_path: Path) -> None:
    lost = {"code": unknown(), "key": "", "status": "received"}  # said to be there, and not found
    (tmp_path / "budget.toml").write_text(PATIENT)
    status, output = await locust(
        *("Portal", "--users", "12", "--run-time", "3s"),  # each does something within its first second
        HOSO24_LOAD_UP=up_file(tmp_path, house.lookup_url, house.intake_url, house.token, [lost]),
        HOSO24_LOAD_BUDGET=str(tmp_path / "budget.toml"),
        HOSO24_LOAD_DOSSIERS="0",
    )
    assert status == 1, output
    assert "wrong: " in output
    assert re.search(r"^errors .* FAIL$", output, re.MULTILINE), output
    assert output.endswith("Not within budget.\n")


async def test_without_a_house_one_sentence_says_what_to_run(tmp_path: Path) -> None:
    status, output = await locust(HOSO24_LOAD_UP=str(tmp_path / "up.json"))
    assert status == 2
    assert output.splitlines()[-1] == f"There is no {tmp_path}/up.json: run `make up` in another terminal first."


def test_locust_is_not_imported_into_the_tests() -> None:
    assert not {"locust", "gevent"} & sys.modules.keys()
