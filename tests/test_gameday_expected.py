"""What a game day expects: every kind of wrong answer is found, and nothing that is right is called wrong."""

import gzip
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtests import answers
from loadtests.answers import Answer, Status
from loadtests.gameday.expected import Expected, ExpectedChange, Judgement, Question
from loadtests.pages import spelled
from tests.clocks import Clock

CODE, OTHER = "G99.01.01-261126-0001", "G99.01.01-261126-0002"
SOFT, HARD, NEGATIVE = 60.0, 3600.0, 5.0
WALL = 1_800_000_000.0
"""The wall clock when the monotonic one is at 0."""
STATUSES = {
    "received": Status(2, False, 0.25, ("processing", "received"), "Được tiếp nhận", "Accepted"),
    "processing": Status(4, False, 0.5, ("processing", "suspended", "completed"), "Đang xử lý", "Being processed"),
    "suspended": Status(8, False, 0.25, ("returned",), "Dừng xử lý", "Stopped or suspended"),
    "completed": Status(9, False, 0.9, ("returned",), "Đã xử lý xong", "Decided"),
    "withdrawn": Status(7, True, 1.0, (), "Công dân yêu cầu rút hồ sơ", "Withdrawn by the applicant"),
    "returned": Status(10, True, 1.0, (), "Đã trả kết quả", "Result handed over"),
}
KEY, DUE, MOVED_DUE = "0-ABCDE-FGHJK", "2027-02-01T16:30:59+07:00", "2027-02-03T16:30:00+07:00"
"""The lookup key of every receipt, the due date on it, and the one after the second move."""
HANOI = timezone(timedelta(hours=7))


class BothClocks(Clock):
    """The wall's goes with the monotonic one."""

    def wall(self) -> float:
        return WALL + self.now


@dataclass
class Office:
    """The expected, and what happens at which moment."""

    clock: BothClocks = field(default_factory=lambda: BothClocks(0.0))
    keys: Iterator[int] = field(default_factory=itertools.count)
    pending: ExpectedChange | None = None

    def __post_init__(self) -> None:
        clock = self.clock
        bounds = {"soft_age": SOFT, "hard_age": HARD, "negative": NEGATIVE}
        self.expected = Expected(STATUSES, **bounds, monotonic=clock.monotonic, wall=clock.wall)

    def receive(self, began: float, acknowledged: float, code: str = CODE) -> str:
        self.clock.now = began
        change = self.expected.submit(f"key {next(self.keys)}")
        self.clock.now = acknowledged
        receipt = {"code": code, "version": 1, "status": "received", "due_at": DUE, "lookup_key": KEY}
        return self.expected.acknowledge(change, receipt)

    def begin(self, began: float, status: str, code: str = CODE) -> ExpectedChange:
        self.clock.now = began
        self.pending = self.expected.move(f"key {next(self.keys)}", code, status)
        return self.pending

    def move(self, began: float, acknowledged: float, status: str, code: str = CODE, due_at: str | None = DUE) -> str:
        change = self.begin(began, status, code)
        self.clock.now = acknowledged
        answer = {"code": code, "version": change.version, "status": status, "due_at": due_at}
        return self.expected.acknowledge(change, answer)

    def judge(
        self,
        answer: Answer,
        asked: float,
        *,
        seconds: float = 0.01,
        process: str = "lookup-1",
        code: str | None = CODE,
        at_least: int = 0,
        language: str = "",
        key: str = "",
    ) -> Judgement:
        """At the moment when it was answered. A page is asked for compressed."""
        self.clock.now = asked + seconds
        question = Question("known", code or "Z99.99.99-261126-0001", code, at_least, language, key, bool(language))
        return self.expected.judge(question, answer, asked, asked + seconds, process)


Say = Callable[[Office], Judgement]


@pytest.fixture
def office() -> Office:
    """Received at 10 s, moved on at 20 s and at 30 s; each took a second to be acknowledged."""
    office = Office()
    office.receive(10.0, 11.0)
    office.move(20.0, 21.0, "processing")
    office.move(30.0, 31.0, "completed", due_at=MOVED_DUE)
    return office


# -- answers as a lookup gives them -----------------------------------------------------------------------------------


def shown(
    version: int,
    status: str,
    *,
    age: float = 0,
    as_of: float | None = None,
    code: str = CODE,
    exact: bool = False,
    **fields: Any,
) -> Answer:
    """A dossier; with `as_of` (monotonic) one that is marked."""
    number, final, completion, *_ = STATUSES.get(status, Status(0, False, 0.0, ()))
    content = {
        "code": code,
        "status": status,
        "status_number": number,
        "final": final,
        "completion": completion,
        "version": version,
    } | fields
    headers = {"content-type": "application/json", "age": str(int(age)), "x-request-id": "1"}
    if as_of is not None:
        content |= {"stale": True, "as_of": datetime.fromtimestamp(WALL + as_of, HANOI).isoformat()}
    if as_of is not None or exact:
        headers["cache-control"] = "no-store"
    else:
        headers |= {"cache-control": "public, no-cache", "etag": f'"1.{version}"'}
    return Answer(200, headers, json.dumps(content).encode())


def missing() -> Answer:
    return problem(404, "dossier_not_found")


def problem(status: int, word: str, **headers: str) -> Answer:
    body = json.dumps({"status": status, "code": word}).encode()
    there = {"content-type": "application/problem+json", "cache-control": "no-store", "x-request-id": "1"} | headers
    return Answer(status, there, body)


def to_holder(
    version: int,
    status: str,
    due_at: str | None = MOVED_DUE,
    steps: Sequence[str] = ("received", "processing", "completed"),
    **fields: Any,
) -> Answer:
    """The same for the holder of the lookup key."""
    usual: dict[str, Any] = dict.fromkeys(answers.FOR_THE_HOLDER)
    usual |= {"pauses": [], "receipt": {"number": CODE}, "received_at": DUE, "due_at": due_at}
    there = [dict.fromkeys(answers.STEP) | {"status": step} for step in steps[:version]]
    fields = usual | {"timeline": there} | fields
    answer = shown(version, status, **fields)
    return answer._replace(headers={**answer.headers, "cache-control": "private, no-store"})


def page(
    status: str,
    as_of: float,
    *,
    marked: bool = False,
    code: str = CODE,
    lang: str = "en",
    done: float | None = -1,
    due: str | None = None,
    date: str = "",
) -> Answer:
    """A dossier's page, no more of it than is read; `due`: what its holder is told, empty for nothing.

    `done`: its degree of completion where that is not the status's own; `date`: one more.
    """
    at = datetime.fromtimestamp(WALL + as_of, UTC).astimezone(HANOI)
    minute, name = at.isoformat(timespec="minutes"), STATUSES[status].called(lang)
    done = STATUSES[status].completion if done == -1 else done
    text = "".join(
        (
            f'<html lang="{lang}"><link rel="icon" href="/static/icon.svg">',
            f'<div class="notice" id="stale">\n<p>As of <time datetime="{minute}">then</time></p>' if marked else "",
            f"<h1>{code}<svg></svg><span>{name}</span></span></h1>",
            f'<time datetime="{date}">' if date else "",
            f'<div class="due"><h2>Due</h2><time datetime="{due}">then</time></div>' if due else "",
            f'<time id="as-of" datetime="{minute}">{spelled(at, lang)}</time>',
            "" if done is None else f'<p class="completion" id="completion">Done <b>{done * 100:.0f}%</b></p>',
            f'<li aria-current="step"><b>{name}</b></li>',
            '<input name="key"></html>' if due is None else "</html>",
        )
    )
    headers = {"content-type": "text/html", "content-encoding": "gzip", "cache-control": "private, no-store"}
    if due is None and not marked:
        headers |= {"cache-control": "private, no-cache", "etag": f'"1.{status}"'}
    return Answer(200, headers, gzip.compress(text.encode()))


def holders(answer: Answer, at: float, **how: Any) -> Say:
    """The holder is given this."""
    return lambda o: o.judge(answer, at, key=KEY, **how)


# -- what is wrong ----------------------------------------------------------------------------------------------------

WRONG: Sequence[tuple[str, Say]] = [
    ("a version that was never made", lambda o: o.judge(shown(4, "completed"), 40)),
    ("a version that was never made", lambda o: o.judge(shown(0, "received"), 40)),
    ("a version that was never made", lambda o: o.judge(shown(1, "received", code=OTHER), 40, code=OTHER)),
    ("a version that was never made", lambda o: o.judge(shown(4, "completed", as_of=39), 40)),
    ("a status that is not that version's", lambda o: o.judge(shown(3, "processing"), 40)),
    ("a status that is not that version's", lambda o: o.judge(shown(2, "completed", as_of=25), 40)),
    ("older than the soft age and not marked", lambda o: o.judge(shown(2, "processing"), 92)),
    ("older than the soft age and not marked", lambda o: o.judge(shown(1, "received"), 82)),
    ("older than the soft age and not marked", lambda o: o.judge(shown(3, "completed", age=61), 200)),
    ("older than the hard age", lambda o: o.judge(shown(3, "completed", as_of=40), 40 + HARD + 2)),
    ("as of a moment to come", lambda o: o.judge(shown(3, "completed", as_of=300), 40)),
    ("says it was the truth when it was not", lambda o: o.judge(shown(2, "processing", as_of=32), 40)),
    ("says it was the truth when it was not", lambda o: o.judge(shown(2, "processing", age=5), 40)),
    ("than at_least asked for", lambda o: o.judge(shown(2, "processing", exact=True), 40, at_least=3)),
    ("it was told of no dossier", lambda o: o.judge(missing(), 11.5, at_least=1)),
    ("it was told that it is not reached", lambda o: o.judge(problem(412, "version_not_reached"), 40, at_least=3)),
    ("had long been there is said not to exist", lambda o: o.judge(missing(), 17)),
    ("had long been there is said not to exist", lambda o: o.judge(page_missing(), 17, language="en")),
    ("answered 200, 404 was due", lambda o: o.judge(shown(1, "received"), 40, code=None)),
    ("answered 500", lambda o: o.judge(problem(500, "internal"), 40)),
    ("503 without Retry-After", lambda o: o.judge(problem(503, "status_unavailable"), 40)),
    ("another dossier than the one asked for", lambda o: o.judge(shown(3, "completed", code=OTHER), 40)),
    ("a status that is not published", lambda o: o.judge(shown(3, "lost"), 40)),
    ("fields are shown that are not for this", lambda o: o.judge(shown(3, "completed", applicant={}), 40)),
    ("cannot be read", lambda o: o.judge(shown(3, "completed")._replace(body=b"{"), 40)),
    ("refused for another reason", lambda o: o.judge(problem(404, "not_found"), 40, code=None)),
    ("a page with the status of no version", lambda o: o.judge(page("received", 90), 90, language="en")),
    ("a page with the status of no version", lambda o: o.judge(page("withdrawn", 40, done=None), 40, language="en")),
    ("older than the soft age and not marked", lambda o: o.judge(page("completed", 38), 121, language="en")),
    ("older than the hard age", lambda o: o.judge(page("completed", 40, marked=True), 61 + HARD, language="en")),
    ("as of a moment to come", lambda o: o.judge(page("completed", 190), 40, language="en")),
    ("a page in the other language", lambda o: o.judge(page("completed", 40), 40, language="vi")),
    ("degree of completion that is not", lambda o: o.judge(page("completed", 40, done=0.5), 40, language="en")),
    ("a page shows anyone a date", lambda o: o.judge(page("completed", 40, date="2027-02-03"), 40, language="en")),
    ("anyone a moment that is the holder's", lambda o: o.judge(page("completed", 40, date=DUE), 40, language="en")),
    (
        "the page of another kind",
        lambda o: o.judge(page("completed", 40, due="2027-02-03T16:30+07:00"), 40, language="en"),
    ),
    ("the page of another kind", holders(page("completed", 40), 40, language="en")),
    ("another due date than intake answered", holders(page("completed", 40, due=""), 40, language="en")),
    (
        "another due date than intake answered",
        holders(page("completed", 40, due="2027-02-01T16:30+07:00"), 40, language="en"),
    ),
    ("another due date than intake answered", holders(to_holder(3, "completed", DUE), 40)),
    ("another due date than intake answered", holders(to_holder(3, "completed", None), 40)),
    ("a degree of completion that is not the", holders(to_holder(1, "received", DUE, completion=0.5), 16)),
    ("a degree of completion that is not that", lambda o: o.judge(shown(1, "received", completion=0.5), 16)),
    ("fields are missing", holders(shown(3, "completed"), 40)),
    ("fields are shown that are not for this", lambda o: o.judge(to_holder(3, "completed"), 40)),
    ("refused for another reason", holders(missing(), 40)),
]


def page_missing() -> Answer:
    headers = {"content-type": "text/html", "cache-control": "private, no-store"}
    return Answer(404, headers, b'<html lang="en">')


@pytest.mark.parametrize(("why", "say"), WRONG)
def test_wrong_answer_is_found(office: Office, why: str, say: Say) -> None:
    verdict = say(office)
    assert verdict.outcome == "wrong"
    assert why in verdict.why
    assert office.expected.wrong == 1


def test_process_that_goes_back_is_found(office: Office) -> None:
    assert office.judge(shown(3, "completed"), 31.5).outcome == "good"
    verdict = office.judge(shown(2, "processing"), 32.0)
    assert verdict.outcome == "wrong"
    assert "went back" in verdict.why


def test_only_the_process_that_has_shown_it_goes_back(office: Office) -> None:
    """Another one may be behind for as long as the soft age; so may the same one, while it is still answering."""
    assert office.judge(shown(3, "completed"), 31.5).outcome == "good"
    assert office.judge(shown(2, "processing"), 32.0, process="lookup-2").outcome == "good"
    assert office.judge(shown(2, "processing"), 32.0, process="").outcome == "good"
    assert office.judge(shown(2, "processing"), 31.495, seconds=1).outcome == "good"
    assert office.judge(shown(2, "processing", as_of=29.0), 33.0).outcome == "stale"


def test_process_that_knows_no_more_of_what_it_has_shown_is_found(office: Office) -> None:
    office.receive(40.0, 41.0, OTHER)
    assert office.judge(shown(1, "received", code=OTHER), 41.2, code=OTHER).outcome == "good"
    assert office.judge(missing(), 41.3, code=OTHER, process="lookup-2").outcome == "good"
    assert "that there is none" in office.judge(missing(), 41.3, code=OTHER).why


def test_dossier_that_was_shown_is_there_though_not_yet_acknowledged(office: Office) -> None:
    office.receive(40.0, 50.0, OTHER)
    office.clock.now = 42.0
    office.expected._lives[OTHER][0].acknowledged = math.inf  # the acknowledgement is still on its way
    assert office.judge(shown(1, "received", code=OTHER), 42.0, code=OTHER).outcome == "good"
    assert office.judge(missing(), 46.0, code=OTHER, process="lookup-2").outcome == "good"
    assert office.judge(missing(), 48.0, code=OTHER, process="lookup-2").outcome == "wrong"


# -- what is right ----------------------------------------------------------------------------------------------------

RIGHT: Sequence[tuple[str, Say]] = [
    ("good", lambda o: o.judge(problem(412, "version_not_reached"), 40, at_least=4)),
    ("good", lambda o: o.judge(shown(3, "completed"), 40)),
    ("good", lambda o: o.judge(shown(2, "processing", age=59), 90.9)),
    ("good", lambda o: o.judge(shown(3, "completed", age=60), 200)),
    ("good", lambda o: o.judge(shown(2, "processing", age=8), 40)),
    ("stale", lambda o: o.judge(shown(2, "processing", as_of=30.5), 2000)),
    ("good", lambda o: o.judge(shown(3, "completed", exact=True), 40, at_least=3)),
    ("good", lambda o: o.judge(shown(3, "completed", exact=True), 40, at_least=1)),
    ("good", lambda o: o.judge(missing(), 40, code=None)),
    ("good", lambda o: o.judge(missing(), 11.5)),
    ("good", lambda o: o.judge(page_missing(), 40, code=None, language="en")),
    ("unavailable", lambda o: o.judge(problem(503, "status_unavailable", **{"retry-after": "1"}), 40)),
    ("unavailable", lambda o: o.judge(Answer(503, {"content-type": "text/html"}), 40)),
    ("limited", lambda o: o.judge(problem(429, "too_many_requests"), 40)),
    ("good", lambda o: o.judge(page("completed", 40), 40, language="en")),
    ("good", lambda o: o.judge(page("processing", 30, lang="vi"), 90, language="vi")),
    ("stale", lambda o: o.judge(page("received", 15, marked=True), 2000, language="en")),
    ("good", holders(to_holder(3, "completed"), 40)),
    ("good", holders(to_holder(2, "processing", DUE), 25)),
    ("good", holders(page("completed", 40, due="2027-02-03T16:30+07:00"), 40, language="en")),
    ("good", holders(page("processing", 30, due="2027-02-01T16:30+07:00", lang="vi"), 40, language="vi")),
    ("good", holders(problem(404, "dossier_or_key_not_found"), 11.5)),
]


@pytest.mark.parametrize(("outcome", "say"), RIGHT)
def test_right_answer_is_right(office: Office, outcome: str, say: Say) -> None:
    verdict = say(office)
    assert (verdict.outcome, office.expected.wrong) == (outcome, 0), verdict.why
    assert bool(verdict.why) is (outcome in ("unavailable", "limited"))


def test_change_under_way_may_be_shown_and_need_not(office: Office) -> None:
    office.begin(40.0, "withdrawn")
    assert office.judge(shown(4, "withdrawn"), 39.0, seconds=0.5).outcome == "wrong"
    assert office.judge(shown(4, "withdrawn"), 39.9, seconds=0.2).outcome == "good"
    assert office.judge(shown(3, "completed"), 500.0, process="lookup-2").outcome == "good"
    assert office.judge(page("withdrawn", 500.0, done=None), 500.0, language="en").outcome == "good"
    assert office.judge(page("completed", 500.0), 500.0, language="en").outcome == "good"


def test_what_ended_without_a_result_shows_no_degree_and_what_was_stopped_keeps_its_own(office: Office) -> None:
    """Whatever stands in between: what it has come to, it has come to."""
    office.receive(40.0, 41.0, OTHER)
    office.move(42.0, 43.0, "processing", OTHER)
    office.move(44.0, 45.0, "suspended", OTHER)

    def said(at: float, status: str, done: float | None, **how: Any) -> str:
        return office.judge(page(status, at, code=OTHER, done=done, **how), at, code=OTHER, language="en").outcome

    assert (said(50.0, "suspended", 0.5), said(51.0, "suspended", 0.25)) == ("good", "wrong")
    assert office.judge(shown(3, "suspended", code=OTHER, completion=0.25), 52.0, code=OTHER).outcome == "wrong"
    office.move(60.0, 61.0, "returned", OTHER)
    assert (said(200.0, "returned", None), said(201.0, "returned", 1.0)) == ("good", "wrong")
    holders_page = page("returned", 202.0, code=OTHER, done=None, due="")
    assert office.judge(holders_page, 202.0, code=OTHER, language="en", key=KEY).outcome == "good"
    steps = ("received", "processing", "suspended", "returned")
    in_json = to_holder(4, "returned", DUE, steps=steps, code=OTHER, receipt={"number": OTHER})
    assert office.judge(in_json, 203.0, code=OTHER, key=KEY).outcome == "good"


def test_due_date_of_a_change_that_was_not_acknowledged_is_not_known(office: Office) -> None:
    office.begin(40.0, "processing")
    for due in ("2027-02-03T16:30+07:00", "2027-02-05T16:30+07:00"):
        holders_page = page("processing", 41.0, due=due)
        assert office.judge(holders_page, 41.0, language="en", key=KEY).outcome == "good"


def test_key_is_the_receipts_and_an_import_has_none(office: Office) -> None:
    office.expected.imported(OTHER, ["received"], 45.0)
    assert (office.expected.key(CODE), office.expected.key(OTHER), office.expected.key("none")) == (KEY, "", "")


def test_holder_asks_with_the_key_in_a_cookie_or_in_a_header() -> None:
    on_a_page = Question("holder", CODE, CODE, language="vi", key=KEY, gzip=True)
    assert (on_a_page.path, on_a_page.headers) == (
        f"/tra-cuu/{CODE}",
        {"Cookie": f"hoso24-key={KEY}", "Accept-Encoding": "gzip"},
    )
    assert Question("holder", CODE, CODE, key=KEY).headers == {"Hoso24-Key": KEY}
    assert Question("known", CODE, CODE).headers == {}


def test_age_is_the_answers_own_word(office: Office) -> None:
    assert office.judge(shown(3, "completed", age=7), 40).age == 7
    assert office.judge(page("completed", 36), 80, language="en").age == pytest.approx(
        20
    )  # of the minute that began at 0
    assert office.judge(missing(), 40, code=None).age is None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_no_answer_of_an_honest_lookup_is_called_wrong(data: st.DataObject) -> None:
    """An honest one shows what was the truth at some moment, says at which, and marks it from the soft age on; it may
    see a change from its beginning on and does not go back.
    """
    office, moments = Office(), st.floats(0.0, 20.0)
    committed: list[float] = []
    now = 0.0
    for version in range(1, data.draw(st.integers(2, 6)) + 1):
        began = now + data.draw(moments)
        late = began + data.draw(moments)
        committed.append(data.draw(st.floats(began, late)))
        if version == 1:
            office.receive(began, late)
        else:
            office.move(began, late, data.draw(st.sampled_from(["processing", "completed"])))
        now = late
    statuses = [change.status for change in office.expected._lives[CODE]]
    last = {"a": 0.0, "b": 0.0}
    for _ in range(data.draw(st.integers(1, 12))):
        now += data.draw(st.floats(0.0, 40.0))
        process = data.draw(st.sampled_from(sorted(last)))
        as_of = data.draw(st.floats(max(last[process], now - 100.0), now))
        version = sum(at <= as_of for at in committed)
        if not version:
            continue
        marked = now - as_of > SOFT
        # It waits before it answers, as long as it was the truth at its word's moment.
        asked = now - data.draw(st.floats(0.0, 3.0))
        if not marked:
            last[process] = as_of
        answer = shown(version, statuses[version - 1], age=now - as_of, as_of=as_of if marked else None)
        verdict = office.judge(answer, asked, seconds=now - asked, process=process)
        assert verdict.outcome == ("stale" if marked else "good"), verdict.why


# -- acknowledgements -------------------------------------------------------------------------------------------------


def test_acknowledgement_of_something_else_is_wrong(office: Office) -> None:
    change = office.begin(40.0, "withdrawn")
    answer = {"code": CODE, "version": 5, "status": "withdrawn", "due_at": DUE}
    assert "another change" in office.expected.acknowledge(change, answer)
    assert "the code of another one" in office.receive(50.0, 51.0, CODE)


def test_dossier_that_is_not_known_for_sure_is_not_moved(office: Office) -> None:
    office.begin(40.0, "withdrawn")
    assert (office.expected.current(CODE), office.expected.status(CODE)) == (3, "completed")
    with pytest.raises(ValueError, match="has not been acknowledged"):
        office.expected.move("key", CODE, "completed")


def test_import_is_there_from_its_end_on(office: Office) -> None:
    office.clock.now = 50.0
    office.expected.imported(OTHER, ["received", "processing"], 45.0)
    assert office.expected.acknowledged() == {CODE: 3, OTHER: 2}
    assert office.expected.codes() == [CODE]
    assert office.judge(shown(2, "processing", code=OTHER), 51, code=OTHER).outcome == "good"
    assert office.judge(missing(), 56, code=OTHER).outcome == "wrong"


def test_what_was_changed_since_a_moment_has_its_last_version_and_is_no_import(office: Office) -> None:
    office.clock.now = 50.0
    office.expected.imported(OTHER, ["received"], 45.0)
    assert office.expected.changed_since(31.0) == {CODE: 3}
    assert office.expected.changed_since(31.1) == {}


# -- what a restore undoes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "differ"),
    [
        ({CODE: 3}, []),
        ({CODE: 2}, [f"{CODE} is at version 2, 3 was acknowledged"]),
        ({CODE: 4}, [f"{CODE} is at version 4, 3 was acknowledged"]),
        ({}, [f"{CODE} is at version 0, 3 was acknowledged"]),
        ({CODE: 3, OTHER: 1}, [f"{OTHER} was not asked for"]),
    ],
)
def test_books_that_are_not_as_expected_differ(office: Office, told: dict[str, int], differ: list[str]) -> None:
    assert office.expected.differs(told) == differ


def test_books_may_have_what_was_given_up_or_not(office: Office) -> None:
    office.begin(40.0, "returned")
    office.expected.submit("given up")
    assert [office.expected.differs(told) for told in ({CODE: 3}, {CODE: 4}, {CODE: 4, OTHER: 1})] == [[], [], []]
    assert office.expected.differs({CODE: 5}) == [f"{CODE} is at version 5, 3 was acknowledged"]


def test_push_that_is_answered_twice_was_acknowledged_the_first_time(office: Office) -> None:
    office.clock.now = 40.0
    change = office.expected.push("line 1", OTHER, "received")
    assert office.expected.differs({CODE: 3}) == []
    line = {"dossier": OTHER, "version": 1, "lookup_key": KEY}
    assert office.expected.acknowledge_push(change, line) == ""
    office.clock.now = 50.0
    assert office.expected.acknowledge_push(change, {"dossier": OTHER, "version": 1}) == ""
    assert (change.acknowledged, office.expected.key(OTHER), change.due_at) == (40.0, KEY, "unknown")
    step = office.expected.push("line 2", OTHER, "processing")
    wrong = office.expected.acknowledge_push(step, {"dossier": OTHER, "version": 3})
    assert wrong.startswith("another change was acknowledged than was asked for")


def test_struck_version_may_be_shown_until_it_is_buried(office: Office) -> None:
    office.judge(shown(3, "completed"), 40.0)
    office.clock.now = 41.0
    office.expected.strike([(CODE, 3)])
    assert office.expected.current(CODE) == 2
    for answer in (shown(3, "completed"), shown(2, "processing"), shown(3, "completed", age=30)):
        assert office.judge(answer, 42.0).outcome == "good"
    assert office.judge(shown(3, "processing"), 42.0).outcome == "wrong"
    office.clock.now = 50.0
    office.expected.bury()
    assert office.judge(shown(3, "completed"), 49.9, seconds=1).outcome == "good"
    assert office.judge(shown(2, "processing"), 51.0).outcome == "good"
    assert office.judge(shown(3, "completed"), 52.0).outcome == "wrong"
    assert office.judge(shown(3, "completed", as_of=40.0), 53.0).outcome == "wrong"
    assert office.judge(page("completed", 53.0), 53.0, language="en").outcome == "wrong"


def test_struck_version_may_be_made_anew_as_another_one(office: Office) -> None:
    office.clock.now = 41.0
    office.expected.strike([(CODE, 3)])
    office.move(42.0, 43.0, "processing")
    office.expected.bury()
    assert office.judge(shown(3, "processing"), 44.0).outcome == "good"
    assert office.judge(shown(3, "completed"), 45.0).outcome == "wrong"


def test_what_is_made_once_more_has_gone_through_what_is_there_now(office: Office) -> None:
    """Its degree of completion is that of the steps before it, and they are others than when it was begun."""
    change = office.begin(40.0, "suspended")
    office.clock.now = 41.0
    office.expected.strike([(CODE, 2)])
    office.move(42.0, 43.0, "received")
    office.move(44.0, 45.0, "received")
    office.clock.now = 46.0
    assert not office.expected.acknowledge(
        change, {"code": CODE, "version": 4, "status": "suspended", "due_at": DUE, "lookup_key": KEY}
    )
    office.expected.bury()
    assert office.judge(shown(4, "suspended"), 47.0).outcome == "good"
    assert office.judge(shown(4, "suspended", completion=0.5), 48.0).outcome == "wrong"


def test_struck_dossier_is_not_there_once_it_is_buried(office: Office) -> None:
    office.clock.now = 41.0
    office.expected.strike([(CODE, 1)])
    assert office.expected.acknowledged() == {}
    assert office.judge(missing(), 42.0).outcome == "good"
    assert office.judge(shown(3, "completed"), 42.5).outcome == "good"
    office.expected.bury()
    assert office.judge(missing(), 43.0).outcome == "good"
    assert office.judge(shown(3, "completed"), 43.0).outcome == "wrong"


# -- the log ----------------------------------------------------------------------------------------------------------


@dataclass
class Log:
    """Events as the primary's log has them: code, version, status, source, id. Answers as asyncpg does."""

    rows: list[dict[str, Any]]

    async def fetch(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        if "version = 1" in statement:
            source, keys = arguments
            return [
                r for r in self.rows if r["version"] == 1 and r["source"] == source and r["source_event_id"] not in keys
            ]
        return [r for r in self.rows if r["code"] in arguments[0]]


@pytest.fixture
def log(office: Office) -> Log:
    """What really happened in `office`."""
    return Log(
        [
            {
                "code": change.code,
                "version": change.version,
                "status": STATUSES[change.status].number,
                "source": "gameday",
                "source_event_id": change.key,
            }
            for change in office.expected._lives[CODE]
        ]
    )


async def test_nothing_is_lost_where_the_log_has_it_all(office: Office, log: Log) -> None:
    assert await office.expected.lost(log) == []
    office.begin(40.0, "withdrawn")
    assert await office.expected.lost(log) == []


def drop_the_last(log: Log) -> None:
    log.rows.pop()


def change_the_status(log: Log) -> None:
    log.rows[1]["status"] = 9


def change_the_key(log: Log) -> None:
    log.rows[1]["source_event_id"] = "another's"


def take_in_twice(log: Log) -> None:
    log.rows.append(log.rows[0] | {"code": OTHER, "source_event_id": "key 0 again"})


def move_twice(log: Log) -> None:
    log.rows.append(log.rows[2] | {"version": 4, "source_event_id": "key 2 again"})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (drop_the_last, f"{CODE}: version 3 (completed) was acknowledged and is not in the log"),
        (change_the_status, f"{CODE}: version 2 (processing) is completed in the log, by gameday"),
        (change_the_key, f"{CODE}: version 2 (processing) is processing in the log, by gameday"),
        (take_in_twice, f"{OTHER}: taken in, and was not asked for"),
        (move_twice, f"{CODE}: version 4 (completed) was not asked for"),
    ],
)
async def test_whatever_the_log_has_otherwise_is_found(
    office: Office, log: Log, spoil: Callable[[Log], None], said: str
) -> None:
    spoil(log)
    assert await office.expected.lost(log) == [said]


async def test_change_that_was_given_up_may_be_in_the_log_or_not(office: Office, log: Log) -> None:
    change = office.begin(40.0, "withdrawn")
    assert await office.expected.lost(log) == []
    log.rows.append(log.rows[2] | {"version": 4, "status": 7, "source_event_id": change.key})
    assert await office.expected.lost(log) == []


async def test_what_was_struck_is_not_missed(office: Office, log: Log) -> None:
    office.expected.strike([(CODE, 3)])
    log.rows.pop()
    assert await office.expected.lost(log) == []
