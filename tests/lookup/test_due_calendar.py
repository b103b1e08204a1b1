"""The due date for a calendar: a file as RFC 5545 wants it, for the holder alone, of a date that stands."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from lookup.clock import microseconds, moment
from lookup.code import parse
from lookup.dossier import Record
from lookup.lookup_key import KeyRing
from lookup.reading.reader import Found
from lookup.status import Status
from lookup.web.due_calendar import NAME, _escaped, _folded, event
from lookup.web.layout import FORMS
from tests.conftest import KEY_SECRETS
from tests.lookup.alone import Alone, Answer, lookup_alone

KNOWN = parse("G99.999.999.999.999.999-260101-9999999999")
NUMBER = parse("01234/2026/99901")
OTHER = parse("G99.12.01-260101-0002")
OURS = KeyRing.from_text(KEY_SECRETS)
KEY = OURS.key(KNOWN)
NOTE = "Nộp bản sao giấy ra viện (ví dụ)."


def read(body: bytes) -> list[tuple[str, str]]:
    """The content lines of a calendar, as strictly as RFC 5545 (3.1, 3.6) has them: names and unescaped values."""
    assert body.endswith(b"\r\n")
    physical = body[:-2].split(b"\r\n")
    assert not any(re.search(rb"[\r\n]", line) for line in physical)
    assert all(0 < len(line) <= 75 for line in physical)
    for each in physical:
        each.decode("utf-8")  # no letter is cut in two
    lines = re.sub(r"\r\n[ \t]", "", body[:-2].decode()).split("\r\n")
    found = []
    for line in lines:
        name, colon, value = line.partition(":")
        assert colon, line
        assert re.fullmatch(r"[A-Z-]+", name), line
        assert not re.search(r"(?<!\\)[;,]", value) or name in {"URL", "PRODID"}, line
        found.append((name, re.sub(r"\\([\\;,n])", lambda each: "\n" if each[1] == "n" else each[1], value)))
    assert found[0] == ("BEGIN", "VCALENDAR")
    assert found[-2:] == [("END", "VEVENT"), ("END", "VCALENDAR")]
    names = [name for name, _ in found]
    assert names.count("BEGIN") == names.count("END") == 2
    for once in ("VERSION", "PRODID", "UID", "DTSTAMP", "DTSTART", "SUMMARY"):
        assert names.count(once) == 1, once
    assert names.index("PRODID") < names.index("UID")
    return found


def now(alone: Alone) -> datetime:
    return moment(alone.clock.now())


async def download(alone: Alone, lang: str = "vi", key: str | None = KEY) -> Answer:
    return await alone.ask(f"{FORMS[lang]}/{KNOWN.path}/{NAME}", cookie=key)


@pytest.mark.parametrize("lang", FORMS)
async def test_holder_downloads_the_date_that_stands(lang: str) -> None:
    async with lookup_alone(public_url="https://tra-cuu.example/") as alone:
        due = now(alone) + timedelta(days=9)
        alone.put(KNOWN.text, due_at=due, version=7, action_needed=NOTE, official_number=NUMBER.text)
        answer = await download(alone, lang)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "text/calendar; charset=utf-8"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="lich-hen.ics"'
        assert answer.headers["Cache-Control"] == "private, no-store"
        found = dict(read(answer.body))
        assert found["VERSION"] == "2.0"
        assert found["UID"] == f"{KNOWN.text}@tra-cuu.example"
        assert found["DTSTART"] == f"{due.astimezone(UTC):%Y%m%dT%H%M%SZ}"
        assert re.fullmatch(r"\d{8}T\d{6}Z", found["DTSTAMP"])
        assert found["SEQUENCE"] == "7"
        assert found["URL"] == f"https://tra-cuu.example{FORMS[lang]}/{KNOWN.path}"
        assert KNOWN.text in found["SUMMARY"]
        said = "".join(value for _, value in read(answer.body))
        for personal in (KEY, NOTE, NUMBER.text, "S.004", "G99.01.01"):
            assert personal not in said
        page = await alone.ask(f"{FORMS[lang]}/{KNOWN.path}", cookie=KEY)
        assert f'href="{FORMS[lang]}/{KNOWN.path}/{NAME}"'.encode() in page.body


async def test_later_file_replaces_the_earlier_one() -> None:
    async with lookup_alone() as alone:
        events = []
        for version, days in ((1, 9), (2, 12)):
            alone.deliver(KNOWN.text, due_at=now(alone) + timedelta(days=days), version=version)
            events.append(dict(read((await download(alone)).body)))
        assert events[0]["UID"] == events[1]["UID"]
        assert [event["SEQUENCE"] for event in events] == ["1", "2"]
        assert events[0]["DTSTART"] < events[1]["DTSTART"]


@pytest.mark.parametrize("key", [None, "", "nonsense", OURS.key(OTHER), OURS.key(KNOWN, 3)])
async def test_nobody_else_gets_it(key: str | None) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text, due_at=now(alone) + timedelta(days=9))
        answer = await download(alone, key=key)
        assert (answer.status, answer.headers["Location"]) == (303, f"/tra-cuu/{KNOWN.path}")
        assert answer.body.find(b"VCALENDAR") == -1
        page = await alone.ask(f"/tra-cuu/{KNOWN.path}")
        assert NAME.encode() not in page.body


NO_DATE = [
    (Status.PROCESSING, None),
    (Status.PROCESSING, timedelta(days=-1)),
    (Status.PROCESSING, timedelta(minutes=-1)),
    (Status.SUBMITTED, timedelta(days=9)),
    (Status.SUPPLEMENT_REQUIRED, timedelta(days=9)),
    (Status.SUSPENDED, timedelta(days=9)),
    (Status.COMPLETED, timedelta(days=9)),
    (Status.RETURNED, timedelta(days=9)),
]


@pytest.mark.parametrize(("status", "ahead"), NO_DATE)
async def test_date_that_does_not_stand_is_in_no_calendar_and_offered_by_no_page(
    status: Status, ahead: timedelta | None
) -> None:
    async with lookup_alone() as alone:
        alone.put(KNOWN.text, status=status.value, due_at=None if ahead is None else now(alone) + ahead)
        answer = await download(alone)
        assert (answer.status, answer.headers["Location"]) == (303, f"/tra-cuu/{KNOWN.path}")
        page = await alone.ask(f"/tra-cuu/{KNOWN.path}", cookie=KEY)
        assert page.status == 200
        assert NAME.encode() not in page.body


@pytest.mark.parametrize("name", ["nonsense", "%00", "..", "%0d%0aX:y"])
async def test_what_is_no_code_has_no_calendar(name: str) -> None:
    async with lookup_alone() as alone:
        assert (await alone.ask(f"/tra-cuu/{name}/{NAME}", cookie=KEY)).status in {400, 404}


@pytest.mark.parametrize("text", ["a" * 74, "a" * 75, "a" * 76, "ệ" * 60, "a" + "ệ" * 200, "😀" * 40])
def test_long_lines_are_folded_between_letters(text: str) -> None:
    pieces = _folded(text).split("\r\n")
    assert all(len(piece.encode()) <= 75 for piece in pieces)
    assert all(piece.startswith(" ") for piece in pieces[1:])
    assert pieces[0] + "".join(piece[1:] for piece in pieces[1:]) == text
    assert all(len(piece.encode()) > 75 - len("😀".encode()) for piece in pieces[:-1])  # no sooner than it has to be


@pytest.mark.parametrize("length", [1, 75])
def test_line_of_75_bytes_is_one_piece(length: int) -> None:
    assert _folded("a" * length) == "a" * length
    assert _folded("a" * 76) == "a" * 75 + "\r\n a"
    assert _folded("a" * 150) == "a" * 75 + "\r\n " + "a" * 74 + "\r\n a"


def test_marks_that_part_values_are_escaped_once_each() -> None:
    assert _escaped("a;b, c: d\\e\nf;;") == r"a\;b\, c: d\\e\nf\;\;"


def test_calendar_has_these_lines_and_no_other() -> None:
    due, seen = datetime(2026, 12, 9, 9, 30, tzinfo=UTC), datetime(2026, 11, 30, 1, 2, 3, tzinfo=UTC)
    record = Record(
        code=OTHER.text, version=4, status=4, service="S.004", agency="G99.12.01", submitted_at=seen, due_at=due
    )
    found = Found(record, microseconds(seen), 0, False, "memory", epoch=1)
    url = f"https://tra-cuu.example:8443/en/status/{OTHER.path}"
    lines = event(found, due, url, "en").split("\r\n")
    description = [line for line in lines if line.startswith(("SUMMARY:", "DESCRIPTION:", " "))]
    assert [line for line in lines if line not in description] == [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//hoso24//lookup//VI",
        "BEGIN:VEVENT",
        f"UID:{OTHER.text}@tra-cuu.example",
        "DTSTAMP:20261130T010203Z",
        "SEQUENCE:4",
        "DTSTART:20261209T093000Z",
        f"URL:{url}",
        "TRANSP:TRANSPARENT",
        "END:VEVENT",
        "END:VCALENDAR",
        "",
    ]
