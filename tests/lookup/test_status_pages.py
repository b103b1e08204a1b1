"""A dossier's page beyond its table of situations (tests/pages): shapes and words, contact, maintenance, any record."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import escape

from lookup import code as codes
from lookup.catalogue import Catalogue
from lookup.clock import microseconds
from lookup.dossier import Pause, Record, Shows, Step
from lookup.maintenance import Notice, Part
from lookup.reading.freshness import SECOND
from lookup.reading.reader import Found
from lookup.status import Status
from lookup.web.answers import Answers
from lookup.web.layout import FORMS, RATING, render
from lookup.web.status_pages import Words, context_of, page_context, parts
from tests.lookup.offline import CATALOGUE, PUBLIC_URL, Offline
from tests.pages.lines import lines, strange

CODE = "G99.01.01-261109-0007"
SEEN = datetime(2026, 11, 23, 8, 0, 30, tzinfo=UTC)
DUE = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
NUMBER = "04321/2026/99901"


def record(*way: str, **given: Any) -> Record:
    """A dossier that took these steps, an hour each."""
    began = datetime(2026, 11, 9, 1, 30, tzinfo=UTC)
    steps = tuple(Step(began + timedelta(hours=hour), slug, "G99.01.01") for hour, slug in enumerate(way))
    accepted = began if {"received", "processing"} & {*way} else None
    known: dict[str, Any] = {
        "code": CODE,
        "version": len(way),
        "status": Status.from_slug(way[-1]).value,
        "service": "S.004",
        "agency": "G99.01.01",
        "submitted_at": began,
        "received_at": accepted,
        "due_at": DUE,
        "timeline": steps,
    }
    return Record(**known | given)


async def page(dossier: Record, *, lang: str = "vi", holder: bool = False, seen: datetime = SEEN, **given: Any) -> str:
    return await Offline(dossier, microseconds(seen), **given).page(lang, holder=holder)


# -- shapes and words ----------------------------------------------------------------------------------------

WAYS = [
    *(("submitted",), ("received",), ("received", "processing"), ("received", "rejected"), ("received", "withdrawn")),
    *(("submitted", "supplement_required"), ("received", "supplement_required"), ("received", "payment_required")),
    *(("received", "suspended"), ("received", "completed"), ("received", "completed", "returned")),
    *(("received", "completed", "processing"), ("received", "suspended", "returned")),
]
WORDS = [field.name for field in fields(Words)]
MARKS = {name: chr(0xE000 + place) for place, name in enumerate(WORDS)}


def found(known: Record, *, seen: datetime = SEEN, stale: bool = False) -> Found:
    return Found(known, microseconds(seen), (7200 if stale else 3) * SECOND, stale, "memory", epoch=1)


def answers(*shows: Shows, catalogue: Catalogue = CATALOGUE, **given: Any) -> Answers:
    return Answers(lambda: catalogue, frozenset(shows), PUBLIC_URL, **given)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
@pytest.mark.parametrize("stale", [False, True], ids=["fresh", "stale"])
@pytest.mark.parametrize("asked_as", [CODE, NUMBER])
def test_page_is_its_shape_filled_in_with_its_words(way: tuple[str, ...], stale: bool, asked_as: str) -> None:
    """What a page made once for many dossiers rests on: no word is sliced, compared or transformed on its way."""
    code = codes.parse(asked_as)
    for lang, shows, days in itertools.product(FORMS, ((), (Shows.DUE,)), (-12, -1, 0, 1, 8)):
        known = record(*way, official_number=NUMBER, due_at=SEEN + timedelta(days=days))
        shape, words = parts(answers(*shows), found(known, stale=stale), code, lang)
        direct = render("status.html", lang, page_context(shape, words))
        marks: dict[str, Any] = MARKS | {"contact": escape(MARKS["contact"])}
        filled = render("status.html", lang, page_context(shape, Words(**marks)))
        for name, mark in MARKS.items():
            filled = filled.replace(mark, escape(getattr(words, name)))
        assert filled == direct


def test_days_and_dates_are_words_and_make_no_other_shape() -> None:
    shapes = {
        parts(
            answers(Shows.DUE), found(record("received", due_at=SEEN + timedelta(days=days))), codes.parse(CODE), "vi"
        )[0]
        for days in range(2, 400)
    }
    assert len(shapes) == 1


def test_anyone_without_due_dates_meets_few_shapes() -> None:
    shapes = set()
    for way, day, due in itertools.product(WAYS, range(-40, 40), (DUE, None)):
        known = record(*way, due_at=due)
        shape, words = parts(answers(), found(known, seen=DUE + timedelta(days=day)), codes.parse(CODE), "vi")
        assert (words.due, words.due_time) == ("", "")
        shapes.add(shape)
    assert len(shapes) == len(WAYS)


def test_minute_is_rounded_down() -> None:
    for second in (0, 1, 59):
        _, words = parts(
            answers(), found(record("received"), seen=SEEN.replace(second=second)), codes.parse(CODE), "en"
        )
        assert (words.as_of, words.as_of_time) == ("23 November 2026, 15:00", "2026-11-23T15:00+07:00")


def test_stale_answer_is_of_the_moment_it_is_read_and_a_fresh_one_of_its_minute() -> None:
    begins = SEEN + timedelta(hours=25)  # told from a day before it, of which the stale answer is old enough
    for stale in (False, True):
        shape, _ = parts(
            answers(),
            found(record("received"), stale=stale),
            codes.parse(CODE),
            "vi",
            maintenance=(notice(Part.LOOKUP, begins=begins), False),
        )
        assert (shape.maintenance is not None) is stale
    due_in_that_minute = record("received", due_at=SEEN.replace(second=2))
    shape, _ = parts(answers(), found(due_in_that_minute), codes.parse(CODE), "vi", holder=True)
    assert shape.situation.case == "2t"


# -- by official number --------------------------------------------------------------------------------------


async def test_asked_for_by_number_everything_stays_under_the_number() -> None:
    lookup = Offline(record("received", official_number=NUMBER), microseconds(SEEN))
    for lang, form in FORMS.items():
        html = await lookup.page(lang, holder=False, asked_as="04321-2026-99901")
        addresses = re.findall(r'(?:href|action)="((?:/tra-cuu|/en/status)/[^"]+)"', html)
        addresses.remove(RATING[lang])
        assert len(addresses) >= 3
        assert all(address.endswith("/04321-2026-99901") for address in addresses)
        response = await lookup.ask(f"{form}/04321-2026-99901")
        assert response.headers["Link"] == f'<{form}/{CODE}>; rel="canonical"'


# -- contact -------------------------------------------------------------------------------------------------


class _WithContacts(Catalogue):
    """A catalogue that knows how to reach agencies."""

    reach: Mapping[str, Any] = {}

    def contact_of(self, prefix: str, day: date) -> Any:
        return self.reach.get(prefix)


class _Reach:
    def __init__(self, agency: Any, **known: str) -> None:
        self.agency = agency
        for name in ("hotline", "email", "address_vi", "address_en", "hours_vi", "hours_en", "complaint_url"):
            setattr(self, name, known.get(name))


def reachable(**agencies: dict[str, str]) -> Catalogue:
    catalogue = _WithContacts(CATALOGUE.agencies, CATALOGUE.services)
    reach = {code.replace("_", "."): known for code, known in agencies.items()}
    catalogue.__dict__["reach"] = {code: _Reach(CATALOGUE.agencies[code], **known) for code, known in reach.items()}
    return catalogue


OFFICE = {
    "hotline": "0900 000 001",
    "email": "mau@vi-du.example",
    "address_vi": "Số 1, đường Ví Dụ (hư cấu)",
    "hours_vi": "7:30–17:00",
    "complaint_url": "https://phan-anh.example/",
}


@pytest.mark.parametrize("way", [("received", "supplement_required"), ("received",)], ids=["at once", "at the end"])
async def test_agency_of_the_code_is_who_is_called(way: tuple[str, ...]) -> None:
    known = reachable(G99_01_01=OFFICE)
    html = await page(record(*way, agency="G99.01"), lang="en", known=known)
    assert html.count('href="tel:0900000001"') == 1
    assert 'href="mailto:mau@vi-du.example"' in html
    assert 'href="https://phan-anh.example/"' in html
    assert "Song May Local Social Insurance Office 1" in html
    assert '<span lang="vi">Số 1, đường Ví Dụ (hư cấu)</span>' in html  # there is no English one
    assert "Social Insurance of Song May Province" not in html  # who has it now is the holder's to know
    read = lines(html)
    (place,) = (number for number, line in enumerate(read) if line.startswith("Telephone:"))
    before = read.index(
        "If you have not received it, contact:" if len(way) > 1 else "## Contact about this application"
    )
    assert before < place


async def test_holder_reads_who_has_it_now_too() -> None:
    known = reachable(G99_01_01=OFFICE, G99_01={"hotline": "0900 000 002"})
    html = await page(record("received", agency="G99.01"), holder=True, known=known)
    assert "Cơ quan đang giải quyết: <b>Bảo hiểm xã hội tỉnh Sông Mây (hư cấu)</b>, điện thoại <a" in html
    assert 'href="tel:0900000002"' in html


async def test_hotline_stands_in_for_a_number_that_is_not_known() -> None:
    elsewhere = "nơi đã nộp hồ sơ (số điện thoại ghi trên giấy tiếp nhận)"
    with_none = await page(record("received"))
    assert elsewhere in with_none
    with_hotline = await page(record("received"), hotline="1900 0000")
    assert '<a href="tel:19000000">1900 0000</a>' in with_hotline
    assert elsewhere not in with_hotline
    with_remark = await page(record("received"), hotline="1900 0000 (trong giờ)")
    assert '<span lang="vi">1900 0000 (trong giờ)</span>' in with_remark
    assert "tel:" not in with_remark


async def test_number_with_dots_and_dashes_dials_its_digits() -> None:
    dotted = await page(record("received"), known=reachable(G99_01_01=OFFICE | {"hotline": "024.0000-0001"}))
    assert 'href="tel:02400000001"' in dotted


async def test_words_of_a_heading_are_not_torn_apart() -> None:
    html = await page(record("received", "supplement_required"))
    assert "Yêu\N{NO-BREAK SPACE}cầu bổ\N{NO-BREAK SPACE}sung giấy\N{NO-BREAK SPACE}tờ</span></span></h1>" in html
    assert "<title>Yêu cầu bổ sung giấy tờ – " in html


def test_codes_of_agencies_that_nobody_has_do_not_fill_the_memory() -> None:
    contacts = answers().contacts
    blocks = {contacts.block(f"X{n:02}.01", SEEN.date(), "vi") for n in range(100)}
    assert len(blocks) == 1
    assert len(contacts._made) == 1


def test_contact_follows_the_catalogue_and_the_day() -> None:
    known = [reachable(G99_01_01=OFFICE)]
    contacts = Answers(lambda: known[0], frozenset(), PUBLIC_URL).contacts
    before = contacts.block("G99.01.01", SEEN.date(), "vi")
    assert contacts.block("G99.01.01", SEEN.date(), "vi") is before
    assert contacts.block("G99.01.01", SEEN.date() + timedelta(days=1), "vi") is not before
    known[0] = reachable(G99_01_01=OFFICE | {"hotline": "0900 000 003"})
    assert "0900000003" in contacts.block("G99.01.01", SEEN.date(), "vi")


# -- hours of acceptance --------------------------------------------------------------------------------------


async def test_hours_within_which_an_application_is_answered_are_a_setting() -> None:
    assert "trong 8 giờ làm việc" in await page(record("submitted"))
    untold = await page(record("submitted"), acceptance_hours=0)
    assert "giờ làm việc kể từ" not in untold
    assert "Hiện ông/bà chưa cần làm gì thêm." in untold
    assert '<h2 id="contact">' in untold


# -- maintenance ---------------------------------------------------------------------------------------------


def notice(*affects: Part, begins: datetime, hours: int = 2) -> Notice:
    return Notice(
        number=1,
        starts_at=begins,
        ends_at=begins + timedelta(hours=hours),
        shown_from=begins - timedelta(days=7),
        affects=affects,
        text_vi="Nâng cấp.",
        text_en="Upgrade.",
        announced_at=begins - timedelta(days=9),
    )


OPEN, CLOSED, LACKING = record("received"), record("received", "rejected"), record("received", "supplement_required")


@pytest.mark.parametrize(
    ("affects", "known", "told"),
    [
        ((Part.LOOKUP,), OPEN, "Status checking is under maintenance until about 23 November 2026, 16:30."),
        ((Part.LOOKUP,), CLOSED, "Status checking is under maintenance until about 23 November 2026, 16:30."),
        ((Part.UPDATES,), OPEN, "Status updates are under maintenance until about 23 November 2026, 16:30."),
        ((Part.UPDATES,), CLOSED, None),
        ((Part.INTAKE,), LACKING, "Receiving applications is under maintenance until about 23 November 2026, 16:30."),
        ((Part.INTAKE,), OPEN, None),
        (tuple(Part), OPEN, "Status checking is under maintenance until about 23 November 2026, 16:30."),
    ],
)
async def test_running_maintenance_is_told_where_it_matters(
    affects: tuple[Part, ...], known: Record, told: str | None
) -> None:
    running = notice(*affects, begins=SEEN.replace(hour=7, minute=30, second=0))
    html = await page(known, lang="en", maintenance=lambda: (running, True))
    shown = [line for line in lines(html) if "maintenance" in line]
    assert shown == ([] if told is None else [line for line in shown if line.startswith(told)])
    assert (told is None) is (not shown)


async def test_maintenance_that_begins_appears_on_the_page_without_a_restart() -> None:
    begins = SEEN + timedelta(hours=30)
    announced = notice(Part.UPDATES, begins=begins)
    pointed = [(announced, False)]
    lookup = Offline(OPEN, microseconds(SEEN), maintenance=lambda: pointed[0])
    assert 'id="maintenance"' not in await lookup.page("vi", holder=False)  # more than a day ahead
    soon = Offline(OPEN, microseconds(begins - timedelta(hours=23)), maintenance=lambda: pointed[0])
    coming = await soon.page("vi", holder=False)
    assert "Từ 21:00 ngày 24/11/2026 đến 23:00 ngày 24/11/2026: bảo trì chức năng cập nhật tình trạng." in coming
    pointed[0] = (announced, True)
    assert "Đang bảo trì chức năng cập nhật tình trạng, dự kiến xong lúc 23:00" in await soon.page("vi", holder=False)


# -- any record ----------------------------------------------------------------------------------------------

fewer = settings(max_examples=settings().max_examples // 2)
"""Each example is two pages or three: half as many as elsewhere, in `make proof` too."""
moments = st.datetimes(datetime(2026, 11, 1), datetime(2026, 12, 31), timezones=st.just(UTC))
texts = st.none() | st.sampled_from(["Bổ sung bản sao (hư cấu)", "<b>x</b>"])


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Any record the caches may hold, also one that no ledger would write."""
    slugs = [status.slug for status in Status]
    late, task, at = st.booleans(), st.none() | st.integers(1, 2), st.none() | moments
    some = st.builds(Step, moments, st.sampled_from(slugs), st.just("G99.01.01"), texts, late, at, task, texts)
    policies = st.sampled_from(["restart", "shift", "none", "another"])
    pauses = st.builds(Pause, st.sampled_from([5, 6, 8]), moments, at, policies, at)
    steps = draw(st.lists(some, max_size=4))
    return Record(
        code=CODE,
        version=1,
        status=draw(st.sampled_from(Status)).value,
        service=draw(st.sampled_from(["S.004", "S.008", "S.999"])),
        agency=draw(st.sampled_from(["G99.01.01", "G99.01", "G98.07"])),
        submitted_at=draw(moments),
        received_at=draw(st.none() | moments),
        due_at=draw(st.none() | moments),
        finished_at=draw(st.none() | moments),
        returned_at=draw(st.none() | moments),
        official_number=draw(st.sampled_from([None, NUMBER])),
        action_needed=draw(texts),
        timeline=tuple(steps),
        origin=draw(st.sampled_from([None, "G99.01.01", "G98.07"])),
        outcome=draw(st.sampled_from([None, "granted", "refused", "partly", "another"])),
        reason=draw(texts),
        pauses=tuple(draw(st.lists(pauses, max_size=2))),
        reappointments=draw(st.integers(0, 2)),
    )


def html_of(dossier: Record, seen: datetime, lang: str, *shows: Shows, stale: bool, holder: bool = False) -> str:
    context = context_of(
        answers(*shows), found(dossier, seen=seen, stale=stale), codes.parse(CODE), lang, holder=holder
    )
    return render("status.html", lang, context)


@fewer
@given(records(), moments, st.sampled_from(sorted(FORMS)), st.booleans())
def test_page_for_anyone_holds_no_date_but_the_minute_it_was_made_of(
    known: Record, seen: datetime, lang: str, stale: bool
) -> None:
    html = html_of(known, seen, lang, stale=stale)
    as_of = set(re.findall(r'<time[^>]* datetime="([^"]+)"', html))
    assert len(as_of) == 1
    told = re.sub(r"<time.*?</time>", "", re.sub(r"<svg.*?</svg>", "", html))
    assert not re.search(r"\d\d?[/:]\d\d|\b20\d\d\b(?!/99901)", told.replace(CODE, ""))
    untold: dict[str, Any] = dict.fromkeys(
        ("due_at", "finished_at", "returned_at", "action_needed", "outcome", "reason")
    )
    untold |= {"pauses": (), "origin": None, "timeline": tuple(map(_bare, known.timeline))}
    assert html_of(Record(**_fields(known) | untold), seen, lang, stale=stale) == html


@fewer
@given(records(), moments, st.sampled_from(sorted(FORMS)), st.booleans(), st.booleans())
def test_page_that_may_be_out_of_date_counts_no_days(
    known: Record, seen: datetime, lang: str, holder: bool, due: bool
) -> None:
    html = html_of(known, seen, lang, *([Shows.DUE] if due else []), stale=True, holder=holder)
    counted = re.sub(r"<h2>(Giải quyết xong ngày|Decided on)</h2>.*?</p>", "", html, flags=re.DOTALL)
    counted = re.sub(r"<p>(Trước khi tạm dừng|Before the hold of) .*?</p>", "", counted)  # that was, and stays
    said = "quá ngày hẹn|overdue|past its|đã qua giờ|time has passed|còn \\d|days left|ngày mai|tomorrow|hôm nay|today"
    assert not re.search(said, re.sub(r"<[^>]*>", " ", counted))


@fewer
@given(records(), moments, st.booleans(), st.booleans())
def test_english_page_says_of_every_vietnamese_text_that_it_is_one(
    known: Record, seen: datetime, holder: bool, stale: bool
) -> None:
    html = html_of(known, seen, "en", stale=stale, holder=holder)
    title, *others = strange(html)
    assert title.endswith(" · Hồ sơ 24")
    assert others == []


@pytest.mark.parametrize("lang", FORMS)
@pytest.mark.parametrize(
    ("way", "given"),
    [
        (("submitted", "rejected"), {}),
        (("received", "withdrawn"), {}),
        (("received", "suspended"), {}),
        (("received", "completed"), {"outcome": "refused"}),
        (("received", "completed", "returned"), {"outcome": "refused"}),
    ],
)
async def test_reason_is_text_in_vietnamese_whatever_it_holds_and_for_the_holder_alone(
    way: tuple[str, ...], given: dict[str, Any], lang: str
) -> None:
    reason = "</p><script>alert(1)</script>\n– {{ code }} {% raw %} 'x' \"y\" & %s {n} \ue000"
    known = record(*way, reason=reason, **given)
    html = await page(known, lang=lang, holder=True)
    assert f'<p class="written" lang="vi">{escape(reason)}</p>' in html  # its lines stay lines (site.css)
    assert ("<h2>Lý do</h2>" if lang == "vi" else "<h2>Reason <span") in html
    assert "<script" not in html
    assert "alert" not in await page(known, lang=lang)
    assert "alert" not in await page(known, lang=lang, shows=Shows)
    assert await page(known, lang=lang) == await page(record(*way), lang=lang)


def test_holders_rows_are_dates_that_a_machine_reads_and_one_code() -> None:
    known = record(
        *("received", "completed", "returned"),
        official_number=NUMBER,
        finished_at=SEEN,
        returned_at=SEEN,
        origin="G99.02",
    )
    context = context_of(answers(), found(known), codes.parse(CODE), "en", holder=True)
    rows = context["holder"]["rows"]
    assert [row["label"] for row in rows if row["code"]] == ["Official number"]
    assert [row["text"] for row in rows if row["code"]] == [NUMBER]
    assert [row["time"] for row in rows] == [
        *(None, None, None, None),
        *("2026-11-09T08:30+07:00", "2026-11-23T15:00+07:00", "2026-11-23T15:00+07:00"),
    ]


@pytest.mark.parametrize("way", [("received",), ("received", "completed"), ("received", "supplement_required")])
async def test_reason_of_what_needs_none_is_not_shown(way: tuple[str, ...]) -> None:
    assert "Lý do cũ" not in await page(record(*way, reason="Lý do cũ"), holder=True)


def _bare(step: Step) -> Step:
    return Step(step.at, step.status, step.agency, late=step.late)


def _fields(known: Record) -> dict[str, Any]:
    return {name: getattr(known, name) for name in known.__struct_fields__}
