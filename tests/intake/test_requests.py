"""What comes in is taken whole or refused with a reason; nothing in between reaches the ledger."""

import unicodedata
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from intake.rules.requests import (
    InvalidContent,
    MalformedJson,
    OfficialNumber,
    Submission,
    Transition,
    UnknownStatus,
    fingerprint,
    nfc,
    read,
)
from lookup.status import FIRST, Status
from tests.house import submission

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def body(content: Any) -> bytes:
    return msgspec.json.encode(content)


def transition(**fields: Any) -> Transition:
    return read(body({"to": "processing"} | fields), Transition)


def test_smallest_submission_is_taken_with_its_defaults() -> None:
    taken = read(body({"agency": "G99", "service": "S.1", "applicant": {"name": "Người Mẫu"}}), Submission)
    assert (taken.channel, taken.service_case, taken.first_status) == ("online", "default", Status.SUBMITTED)
    assert (taken.applicant.kind, taken.submitted_at, taken.department) == (1, None, None)


@pytest.mark.parametrize(("channel", "first"), [("online", 1), ("direct", 2), ("postal", 2)])
def test_channel_decides_the_first_status_unless_it_is_said(channel: str, first: int) -> None:
    assert read(body(submission(channel=channel)), Submission).first_status == first
    assert read(body(submission(channel=channel, status="received")), Submission).first_status is Status.RECEIVED


@pytest.mark.parametrize("status", [status for status in Status if status not in FIRST])
def test_no_dossier_begins_in_the_middle(status: Status) -> None:
    with pytest.raises(InvalidContent, match="begins as submitted or received"):
        read(body(submission(status=status.slug)), Submission)


@pytest.mark.parametrize("slug", ["", "done", "PROCESSING", "4", "processing ", "x" * 5000, "\n'\" - at `$.channel`"])
def test_unknown_status_is_refused_with_the_ones_there_are(slug: str) -> None:
    with pytest.raises(UnknownStatus, match="supplement_required") as refusal:
        transition(to=slug)
    assert len(refusal.value.detail) < 200
    with pytest.raises(UnknownStatus):
        read(body(submission(status=slug)), Submission)


@pytest.mark.parametrize("word", ["done", "' - at `$.to`", '" - at `$.status`'])
def test_other_words_of_a_closed_list_are_no_statuses(word: str) -> None:
    with pytest.raises(InvalidContent, match="channel"):
        read(body(submission(channel=word)), Submission)
    with pytest.raises(InvalidContent, match="outcome"):
        transition(outcome=word)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"to": "processing"',
        b"to=processing",
        b"\xff\xfe",
        b'{"to": "\xff"}',
        b'{"to": "\\ud800"}',
        b'{"to": "\\udc00\\ud800"}',
        b'{"to": "processing"} {"to": "processing"}',
        b"\xef\xbb\xbf" + b'{"to": "processing"}',
        b"NaN",
        b"{'to': 'processing'}",
        b'{"to": "processing",}',
    ],
)
def test_what_is_not_json_is_refused_as_that(raw: bytes) -> None:
    with pytest.raises(MalformedJson):
        read(raw, Transition)


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b'"processing"',
        b"4",
        b"{}",
        b"[" * 100_000,
        b'{"to": ' + b"[" * 100_000,
        b'{"x": ' * 100_000,
    ],
)
def test_json_of_another_shape_is_refused_however_deep(raw: bytes) -> None:
    with pytest.raises(InvalidContent):
        read(raw, Transition)


@pytest.mark.parametrize(
    "fields",
    [
        {"agency": None},
        {"agency": 99},
        {"agency": ""},
        {"agency": "G" * 65},
        {"agency": ["G99"]},
        {"service": {"code": "S.1"}},
        {"applicant": None},
        {"applicant": "Người Mẫu"},
        {"applicant": {}},
        {"applicant": {"name": ""}},
        {"applicant": {"name": "x" * 301}},
        {"applicant": {"name": "Người Mẫu", "kind": 0}},
        {"applicant": {"name": "Người Mẫu", "kind": 5}},
        {"applicant": {"name": "Người Mẫu", "kind": "1"}},
        {"applicant": {"name": "Người Mẫu", "kind": True}},
        {"applicant": {"name": "Người Mẫu", "password": "x"}},
        {"applicant": {"name": "Người\0Mẫu"}},
        {"channel": "fax"},
        {"channel": "ONLINE"},
        {"status": 1},
        {"subject": "x" * 1001},
        {"department": "Phòng\u0000Mẫu"},
        {"officer": "\x1b[31m"},
        {"code": "G99.01.01-261122-0001"},
        {"lookup_key": "10QSW-F3K68-E4RM4"},
        {"version": 7},
        {"submitted_at": "2026-11-20"},
        {"submitted_at": "2026-11-20T08:00:00"},
        {"submitted_at": "2026-02-30T08:00:00+07:00"},
        {"submitted_at": "2026-11-20T24:00:00+07:00"},
        {"submitted_at": "2026-11-20T23:59:60+07:00"},
        {"submitted_at": "20261120080000"},
        {"submitted_at": 1_795_000_000},
        {"submitted_at": ""},
    ],
)
def test_submission_of_another_shape_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent):
        read(body(submission(**fields)), Submission)


@pytest.mark.parametrize("field", ["agency", "service", "applicant"])
def test_missing_field_is_named(field: str) -> None:
    with pytest.raises(InvalidContent, match=field):
        read(body({name: value for name, value in submission().items() if name != field}), Submission)


@pytest.mark.parametrize(
    "fields",
    [
        {"to": None},
        {"to": 4},
        {"at": "2026-11-20T08:00:00"},
        {"at": "tomorrow"},
        {"agency": ""},
        {"department": ""},
        {"note": ""},
        {"note": "x" * 4001},
        {"note": "\0"},
        {"expected_version": 0},
        {"expected_version": -1},
        {"expected_version": 2**31},
        {"expected_version": 1.0},
        {"expected_version": "1"},
        {"expected_version": True},
        {"status": "processing"},
    ],
)
def test_transition_of_another_shape_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidContent):
        transition(**fields)


@pytest.mark.parametrize("number", [None, 1234, "", "x" * 65, "01234/2026/99901\0"])
def test_number_of_another_shape_is_refused(number: Any) -> None:
    with pytest.raises(InvalidContent):
        read(body({"number": number}), OfficialNumber)


@pytest.mark.parametrize(
    ("field", "shortest", "longest"),
    [("agency", 1, 64), ("department", 1, 300), ("officer", 1, 300), ("subject", 1, 1000)],
)
def test_text_of_a_submission_is_taken_at_both_ends_of_its_length(field: str, shortest: int, longest: int) -> None:
    for length in (shortest, longest):
        assert getattr(read(body(submission(**{field: "x" * length})), Submission), field) == "x" * length


@pytest.mark.parametrize(("field", "ends"), [("name", ("x", "x" * 300)), ("kind", (1, 4)), ("phone", ("0", "0" * 64))])
def test_applicant_is_taken_at_both_ends_of_each_limit(field: str, ends: tuple[Any, Any]) -> None:
    for end in ends:
        taken = read(body(submission(applicant={"name": "Người Mẫu"} | {field: end})), Submission)
        assert getattr(taken.applicant, field) == end


@pytest.mark.parametrize(
    ("field", "ends"), [("note", ("x", "x" * 4000)), ("agency", ("G", "G" * 64)), ("expected_version", (1, 2**31 - 1))]
)
def test_transition_is_taken_at_both_ends_of_each_limit(field: str, ends: tuple[Any, Any]) -> None:
    for end in ends:
        assert getattr(transition(**{field: end}), field) == end


def test_official_number_is_taken_at_both_ends_of_its_length() -> None:
    for number in ("1", "1" * 64):
        assert read(body({"number": number, "expected_version": 1}), OfficialNumber).number == number


def test_note_may_have_several_lines() -> None:
    assert transition(note="Bổ sung:\n1. Giấy khai sinh\n\t2. Sổ").note == "Bổ sung:\n1. Giấy khai sinh\n\t2. Sổ"


def test_repeat_may_differ_in_spacing_and_order() -> None:
    turned = msgspec.json.format(body(dict(reversed(submission().items()))), indent=4)
    assert fingerprint("/x", body(submission())) == fingerprint("/x", turned)


@pytest.mark.parametrize("fields", [{"service_case": "default"}, {"department": "x"}, {"channel": "postal"}])
def test_repeat_may_not_differ_in_what_is_sent(fields: dict[str, Any]) -> None:
    assert fingerprint("/x", body(submission())) != fingerprint("/x", body(submission(**fields)))


def test_fingerprint_is_of_the_request_as_sent() -> None:
    # A field that this release does not know: an older release's, or a newer one's.
    assert fingerprint("/x", body({"unknown": 1})) != fingerprint("/x", body({"unknown": 2}))
    with pytest.raises(MalformedJson):
        fingerprint("/x", b"{")


def test_repeat_may_not_go_elsewhere() -> None:
    assert fingerprint("/a", body({"to": "processing"})) != fingerprint("/b", body({"to": "processing"}))


@pytest.mark.parametrize(
    "raw", [b'{"to": "processing", "to": "rejected"}', rb'{"to": "processing", "\u0074o": "rejected"}']
)
def test_key_that_is_said_twice_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidContent, match="to: the body says it more than once"):
        read(raw, Transition)


@pytest.mark.parametrize("name", [" ", "\u200b", "\u202eABC", "Nguyễn\u2066"])
def test_name_that_shows_nothing_or_turns_the_line_is_refused(name: str) -> None:
    with pytest.raises(InvalidContent, match="name"):
        read(body(submission(applicant={"name": name})), Submission)


def test_text_is_measured_as_it_is_stored() -> None:
    longest = "ộ" * 300
    sent = unicodedata.normalize("NFD", longest)
    assert len(sent) == 900
    assert read(body(submission(department=sent)), Submission).department == longest
    with pytest.raises(InvalidContent, match="it has 301 characters; it may have 300"):
        read(body(submission(department="x" * 301)), Submission)


def test_text_is_kept_in_its_composed_form() -> None:
    decomposed = unicodedata.normalize("NFD", "Nguyễn Thị Ước")
    assert decomposed != "Nguyễn Thị Ước"
    assert nfc(decomposed) == "Nguyễn Thị Ước"
    assert nfc(None) is None
