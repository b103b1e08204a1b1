"""Format 2 as bytes: the frozen examples, what the leaf covers, erasure, seals, and the same digest in PostgreSQL."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.books.seal import (
    CONTENT_COLUMNS,
    HASHED_COLUMNS,
    LEAF_COLUMNS,
    PERSON_COLUMNS,
    ROW_COLUMNS,
    EventRecord,
    SealKeys,
    content_digest,
    event_leaf_hash,
    jsonb_text,
    leaf_data,
    new_salt,
    person_digest,
    read_leaf,
)
from intake.books.tree import leaf_hash
from lookup.clock import VIETNAM
from lookup.status import Status

FROZEN = Path(__file__).parent / "event_format_2.json"
KEYS = SealKeys.from_text("2026:" + "5a" * 32)
SALT = bytes(range(16))


def record(example: dict[str, Any]) -> EventRecord:
    return msgspec.convert(example["event"], EventRecord)


def examples() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(FROZEN.read_text("utf-8"))["examples"]
    return found


MOVED = examples()[1]


def values_of(event: EventRecord, salt: bytes = SALT) -> tuple[Any, ...]:
    return event.row(salt, KEYS)[: len(HASHED_COLUMNS)]


# -- the frozen bytes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["name"])
def test_bytes_of_format_2_never_change(example: dict[str, Any]) -> None:
    salt = bytes.fromhex(example["salt"])
    row = record(example).row(salt, KEYS)
    values, seal = row[: len(HASHED_COLUMNS)], row[-1]
    assert leaf_data(values, salt).decode() == example["leaf_data"]
    assert content_digest(values, salt).hex() == example["content"]
    assert event_leaf_hash(values, salt).hex() == example["leaf_hash"]
    assert seal.hex() == example["seal"]
    assert row[-2] == salt
    if "person" in example:
        assert person_digest(salt, example["person"]).hex() == record(example).person.hex()  # type: ignore[union-attr]


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["name"])
def test_bytes_of_format_2_are_what_the_document_says(example: dict[str, Any]) -> None:
    """Made again without the program: Python's json and hashlib only."""
    event, salt = example["event"], bytes.fromhex(example["salt"])
    defaults = {"bulk": False, "supplements": 0, "reappointments": 0, "key_serial": 0}

    def text(values: list[Any]) -> bytes:
        return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()

    listed = [event.get(name, defaults.get(name)) for name in HASHED_COLUMNS]
    content = hashlib.sha256(salt + text(listed[-5:])).digest()
    data = b"hoso24/event-2\n" + text([*listed[:-5], base64_of(content)])
    assert data.decode() == example["leaf_data"]
    assert hashlib.sha256(b"\0" + data).hexdigest() == example["leaf_hash"]
    sealed = hmac.digest(b"\x5a" * 32, hashlib.sha256(b"\0" + data).digest(), "sha256")
    assert sealed[:16].hex() == example["seal"]


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_columns_and_their_order_never_change() -> None:
    assert list(LEAF_COLUMNS) == json.loads(FROZEN.read_text("utf-8"))["leaf_columns"]
    assert CONTENT_COLUMNS == ("note", "detail", "actor", "department", "official_number")
    assert ROW_COLUMNS[-2:] == ("salt", "seal")
    assert list(PERSON_COLUMNS) == [
        *("applicant_kind", "applicant_name", "applicant_id", "applicant_phone", "applicant_email"),
        *("applicant_address", "subject"),
    ]


# -- what the leaf covers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", HASHED_COLUMNS)
def test_every_column_changes_the_leaf(column: str) -> None:
    values = values_of(record(MOVED))
    at = HASHED_COLUMNS.index(column)
    before = event_leaf_hash(values, SALT)
    for other in (None, 77, "77", "", b"77", True, datetime(2026, 1, 1, tzinfo=UTC), ["77"], []):
        if (other, type(other)) != (values[at], type(values[at])):
            assert event_leaf_hash((*values[:at], other, *values[at + 1 :]), SALT) != before


def test_zone_of_a_time_does_not_change_the_leaf_and_its_moment_does() -> None:
    event = record(MOVED)
    there = msgspec.structs.replace(event, occurred_at=event.occurred_at.astimezone(VIETNAM))
    zero = msgspec.structs.replace(event, due_at=(event.due_at or datetime.max).astimezone(timezone(timedelta(0))))
    assert event.row(SALT, KEYS) == there.row(SALT, KEYS) == zero.row(SALT, KEYS)
    later = msgspec.structs.replace(event, occurred_at=event.occurred_at + timedelta(microseconds=1))
    assert later.row(SALT, KEYS)[-1] != event.row(SALT, KEYS)[-1]
    with pytest.raises(ValueError, match="occurred_at of an event needs a time zone"):
        msgspec.structs.replace(event, occurred_at=datetime(2026, 1, 1)).row(SALT, KEYS)


def test_status_is_its_number() -> None:
    event = record(MOVED)
    assert msgspec.structs.replace(event, status=Status(event.status)).row(SALT, KEYS) == event.row(SALT, KEYS)


@given(st.data())
def test_leaf_is_read_as_it_was_written(data: st.DataObject) -> None:
    texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
    event = msgspec.structs.replace(
        record(MOVED), note=data.draw(texts), source_event_id=data.draw(texts), flags=data.draw(st.none() | st.just([]))
    )
    values = values_of(event)
    written = leaf_data(values, SALT)
    leaf = read_leaf(written)
    assert leaf["source_event_id"] == event.source_event_id
    assert leaf["occurred_at"] == "2026-11-16T01:30:15.123456Z"
    assert leaf["content"] == base64_of(content_digest(values, SALT))
    dumped = json.dumps([*leaf.values()], ensure_ascii=False, separators=(",", ":"))
    assert b"hoso24/event-2\n" + dumped.encode() == written
    assert leaf_hash(written) == event_leaf_hash(values, SALT)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hoso24/event-2\n",
        b"hoso24/event-2\n[]",
        b"hoso24/event-2\n{}",
        b"hoso24/event-1\n" + leaf_data(values_of(record(MOVED)), SALT)[15:],
        leaf_data(values_of(record(MOVED)), SALT) + b"\n",
        leaf_data(values_of(record(MOVED)), SALT).replace(b",", b", ", 1),
        leaf_data(values_of(record(MOVED)), SALT)[:-1] + b",null]",
        leaf_data(values_of(record(MOVED)), SALT).replace(b"G99", b"\xff99", 1),
    ],
)
def test_what_is_no_leaf_is_not_read(data: bytes) -> None:
    with pytest.raises(ValueError, match="no leaf of an event of format 2"):
        read_leaf(data)


# -- erasure -----------------------------------------------------------------------------------------------------------


def test_erasure_keeps_the_leaf() -> None:
    row = record(MOVED).row(SALT, KEYS)
    values = row[: len(HASHED_COLUMNS)]
    kept = len(HASHED_COLUMNS) - len(CONTENT_COLUMNS)
    emptied = (*values[:kept], *[None] * len(CONTENT_COLUMNS))
    erased = content_digest(values, SALT)
    assert event_leaf_hash(emptied, None, erased) == event_leaf_hash(values, SALT)
    assert KEYS.sealed_by(event_leaf_hash(emptied, None, erased), row[-1]) == "2026"
    assert event_leaf_hash(emptied, None, bytes(32)) != event_leaf_hash(values, SALT)
    assert event_leaf_hash(emptied, SALT) != event_leaf_hash(values, SALT)
    with pytest.raises(ValueError, match="has a salt, or the digest of what was erased"):
        event_leaf_hash(emptied, None)
    with pytest.raises(ValueError, match="32 bytes, not 16"):
        event_leaf_hash(emptied, None, SALT)
    with pytest.raises(ValueError, match="a salt has 16 bytes, not 15"):
        event_leaf_hash(values, SALT[:15])


def test_the_same_content_has_another_digest_in_each_event() -> None:
    values = values_of(record(MOVED))
    assert content_digest(values, new_salt()) != content_digest(values, new_salt())
    assert person_digest(new_salt(), [1, "A"]) != person_digest(new_salt(), [1, "A"])


# -- seals -------------------------------------------------------------------------------------------------------------


@given(st.binary(min_size=16, max_size=200), st.binary(min_size=32, max_size=32))
def test_seal_is_the_beginning_of_hmac(key: bytes, leaf: bytes) -> None:
    assert SealKeys({"1": key}).seal(leaf) == hmac.digest(key, leaf, "sha256")[:16]


def test_first_key_seals_and_every_key_verifies() -> None:
    leaf = bytes(32)
    old, new = "a:" + "11" * 32, "b-2:" + "22" * 32
    both = SealKeys.from_text(f"{new}, {old}")
    assert both.seal(leaf) == SealKeys.from_text(new).seal(leaf) != SealKeys.from_text(old).seal(leaf)
    assert both.sealed_by(leaf, SealKeys.from_text(old).seal(leaf)) == "a"
    assert both.sealed_by(leaf, SealKeys.from_text(new).seal(leaf)) == "b-2"
    assert SealKeys.from_text(old).sealed_by(leaf, both.seal(leaf)) is None
    assert both.sealed_by(bytes([1]) * 32, both.seal(leaf)) is None
    assert both.sealed_by(leaf, both.seal(leaf)[:15]) is None
    assert repr(both) == "SealKeys(b-2, a)"


SECRET = "c0ffee" * 6


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "seal key 1 is not written id:hex with an id of letters a-z, digits and dashes"),
        (SECRET, "seal key 1 is not written id:hex with an id of letters a-z, digits and dashes"),
        (f"1:{SECRET},", "seal key 2 is not written id:hex with an id of letters a-z, digits and dashes"),
        (f"A:{SECRET}", "seal key 1 is not written id:hex with an id of letters a-z, digits and dashes"),
        (f":{SECRET}", "seal key 1 is not written id:hex with an id of letters a-z, digits and dashes"),
        (f"1:{SECRET},1:{SECRET}", "two seal keys have the id 1; give the newer one another"),
        (f"1:{SECRET}x", "seal key 1 is not written in hexadecimal digits"),
        (f"1:{SECRET}c", "seal key 1 is not written in hexadecimal digits"),
        (f"1:{SECRET[:30]}", "seal key 1 has 15 bytes; it needs 16 or more"),
        ("1:", "seal key 1 has 0 bytes; it needs 16 or more"),
    ],
)
def test_mistakes_in_the_setting_are_one_sentence_that_tells_no_key(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=r".") as refusal:
        SealKeys.from_text(text)
    assert str(refusal.value) == sentence
    assert "c0ffee" not in str(refusal.value)
    assert refusal.value.__cause__ is None


# -- as PostgreSQL writes it -------------------------------------------------------------------------------------------

HARD_TEXTS = [
    "Nguyễn Văn Mẫu (hư cấu)",
    'quote " and \\ and / and \x7f',
    "".join(map(chr, range(1, 32))),
    "\u2028\u2029\u00a0\ufeff\ufffe",
    "😀\U0010ffff",
    "e\u0301 decomposed",
    "",
    " ",
    "0123456789",
    '["a", "b"]',
]


def test_jsonb_text_refuses_what_has_several_spellings() -> None:
    for value in (1.5, b"a", datetime.now(UTC), {1}, object()):
        with pytest.raises(TypeError, match="is not written here"):
            jsonb_text([value])


@given(st.lists(st.none() | st.integers() | st.booleans() | st.text(st.characters(exclude_categories=["Cs"]))))
def test_jsonb_text_is_json_with_blanks(values: list[Any]) -> None:
    assert jsonb_text(values) == json.dumps(values, ensure_ascii=False)
    assert jsonb_text({"b": values, "aa": {"": None}}) == (
        '{"b": ' + json.dumps(values, ensure_ascii=False) + ', "aa": {"": null}}'
    )


async def test_postgresql_computes_the_same_digest_of_a_person(owner: Any) -> None:
    names = ", ".join(PERSON_COLUMNS)
    for n, hard in enumerate(HARD_TEXTS):
        person = [n % 4 + 1, hard, None, *[HARD_TEXTS[(n + k) % len(HARD_TEXTS)] for k in range(4)]]
        text, digest = await owner.fetchrow(
            f"""
            SELECT jsonb_build_array({names})::text,
                   sha256($1 || convert_to(jsonb_build_array({names})::text, 'UTF8'))
              FROM (VALUES ($2::smallint, $3::text, $4::text, $5::text, $6::text, $7::text, $8::text)) AS d ({names})
            """,
            SALT,
            *person,
        )
        assert text == jsonb_text(person)
        assert digest == person_digest(SALT, person)


async def test_postgresql_keeps_jsonb_text_as_it_is(owner: Any) -> None:
    for hard in HARD_TEXTS:
        pauses = [
            {"status": 5, "since": "2026-11-16T08:30:15.5+07:00", "until": None, "policy": hard, "due_before": ""},
            {hard: [1, -5, 10**30, True, {}, []], "đ": hard, "zz": hard, "é": 1, "ab": 2},
        ]
        stored = await owner.fetchval("SELECT $1::text::jsonb::text", json.dumps(pauses))
        assert stored == jsonb_text(pauses)
