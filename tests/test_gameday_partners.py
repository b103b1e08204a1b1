"""The partners of a game day: what they are told is what there is, and what they are not told is found."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from loadtests.answers import Answer
from loadtests.gameday import partners as partners_module
from loadtests.gameday.expected import Expected
from loadtests.gameday.partners import Partners
from loadtests.gameday.record import Record
from loadtests.partners_books import PartnersBooks
from loadtests.system.http_client import Client, Rotation
from tests.conftest import Database
from tests.house import until
from tests.intake.test_webhook_delivery import Rig
from tests.test_gameday_crowd import crowded, small_stage

A, B = "G99.01.01-261126-0001", "G99.01.01-261126-0002"
SECRET = f"whsec_{base64.b64encode(bytes(32)).decode()}"


def event(code: str, version: int, epoch: int = 1, *, minute: int = 0) -> dict[str, Any]:
    """As a page has it, as far as books go."""
    told = {"epoch": epoch, "version": version}
    return {"type": "vn.hoso24.dossier.moved", "subject": code, "time": f"2026-12-01T08:{minute:02}:00Z", "data": told}


# -- with real servers ------------------------------------------------------------------------------------------------


async def test_partners_are_told_all_of_what_a_crowd_does(
    database: Database, redis_url: str, owner: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, expected = Record(), Expected()
    async with small_stage(database, redis_url, tmp_path) as stage, Rig(database, owner).delivering():
        partners = Partners(stage, record, expected)
        async with (
            partners.at_work(),
            crowded(stage, expected, record=record, rate=20.0, import_every=0.5) as (crowd, _),
        ):

            async def all_kinds() -> bool:
                return all(record.window(0.0, None, kind).count("good") for kind in ("move", "import", "push"))

            await until(all_kinds, within=60.0)
            row = await partners.judged(crowd)
            assert row.kept, row
            assert partners.books["follow"].versions == partners.books["webhook"].versions
            assert record.window(0.0, None, "follow", "webhook").whys() == {}
            for books in partners.books.values():  # each is judged, and for what it lacks
                monkeypatch.setattr(partners_module, "EQUAL_SECONDS", 0.0)
                code, had = books.versions.popitem()
                assert not (await partners.judged(crowd)).kept
                books.versions[code] = had


# -- the books --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ([event(A, 1), event(B, 1), event(A, 2)], []),
        ([event(A, 1), event(A, 2), event(A, 1), event(A, 2), event(A, 3)], []),
        ([event(A, 2)], [f"told of {A} at version 2 after 0"]),
        ([event(A, 1), event(A, 3), event(A, 2)], [f"told of {A} at version 3 after 1"]),
        ([event(A, 1), event(A, 2), event(A, 2, epoch=2)], []),
        ([event(A, 1), event(A, 3, epoch=2)], [f"told of {A} at version 3 after 1"]),
    ],
)
def test_what_is_missing_or_out_of_order_is_found(events: list[dict[str, Any]], wrong: list[str]) -> None:
    books = PartnersBooks()
    assert [why for each in events if (why := books.take(each))] == wrong


def test_who_began_later_may_be_told_of_any_version_first() -> None:
    books = PartnersBooks(whole=False)
    assert [books.take(event(A, version)) for version in (7, 8)] == ["", ""]
    assert books.take(event(A, 10)) == f"told of {A} at version 10 after 8"


def test_dossier_that_was_read_again_does_not_undo_what_was_told_meanwhile() -> None:
    books = PartnersBooks()
    for each in (event(A, 1), event(A, 2), event(B, 1)):
        books.take(each)
    books.take(event(A, 2, epoch=2))
    books.correct(A, (1, 2), 1)
    books.correct(B, (1, 1), 0)
    assert books.versions == {A: (2, 2)}


# -- with a service that does as it is told ---------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def at_work(
    answers: dict[str, list[Answer]], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Partners, Record, asyncio.Event]]:
    """Partners of a service that answers each path so in turn; the event is set when all answers are given."""
    usual = {
        "/api/v1/webhooks": [said(201, {"secret": SECRET, "id": "k5x2m7q3t6v4wz2a"})],
        "/api/v1/changes?from=now&limit=1": [said(200, {"events": [], "next": "a", "caught_up": True})],
    }
    script, all_said = {**usual, **answers}, asyncio.Event()

    async def ask_any(_: Any, sent: bytes) -> Answer:
        path = sent.split(b" ")[1].decode().removesuffix("&limit=1000&wait=5")
        if not script.get(path):
            all_said.set()
            await asyncio.Event().wait()  # nothing more happens
        return script[path].pop(0)

    monkeypatch.setattr(Client, "ask_any", ask_any)
    stage: Any = SimpleNamespace(front=SimpleNamespace(intake=Rotation([1])), token="")
    record = Record()
    partners = Partners(stage, record, Expected())
    async with partners.at_work():
        yield partners, record, all_said


def said(status: int, content: dict[str, Any], retry_after: str = "0") -> Answer:
    headers = {"content-type": "application/json", "retry-after": retry_after}
    return Answer(status, headers, json.dumps(content).encode())


def page(cursor: str, *events: dict[str, Any]) -> Answer:
    return said(200, {"events": events, "next": cursor, "caught_up": True})


async def test_follower_goes_on_after_a_restore_and_reads_again_what_changed_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = {
        "/api/v1/changes?after=a": [page("b", event(A, 1), event(B, 1, minute=1), event(A, 2, minute=2))],
        "/api/v1/changes?after=b": [
            said(503, {"code": "feed_halted"}),
            said(410, {"code": "feed_rewound", "resume": "c", "lost_since": "2026-12-01T15:01:00+07:00"}),
        ],
        f"/api/v1/dossiers/{A}": [said(503, {}), said(200, {"version": 1})],
        f"/api/v1/dossiers/{B}": [said(404, {})],
        "/api/v1/changes?after=c": [page("d", event(A, 1), event(A, 2, epoch=2, minute=9))],
    }
    monkeypatch.setattr(partners_module, "PAUSE", 0.0)
    async with at_work(answers, monkeypatch) as (partners, record, all_said):
        async with asyncio.timeout(10):
            await all_said.wait()
        books = partners.books["follow"]
        assert (books.versions, books.restores, books.again) == ({A: (2, 2)}, 1, 1)
    assert record.window(0.0).total == 0


async def test_feed_that_refuses_is_noted_as_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partners_module, "PAUSE", 0.0)
    answers = {"/api/v1/changes?after=a": [said(403, {"code": "out_of_scope"}), page("b", event(A, 2))]}
    async with at_work(answers, monkeypatch) as (_, record, all_said):
        async with asyncio.timeout(10):
            await all_said.wait()
    refused, missing = record.window(0.0, None, "follow")
    assert refused.outcome == missing.outcome == "wrong"
    assert refused.why.startswith("the feed answered 403")
    assert missing.why == f"told of {A} at version 2 after 0"


def delivery(body: bytes, secret: str = SECRET) -> bytes:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, b"wh_1.1700000000." + body, hashlib.sha256)).decode()
    head = ["POST /webhooks HTTP/1.1", "webhook-id: wh_1", "webhook-timestamp: 1700000000"]
    return "\r\n".join([*head, f"webhook-signature: v1a,x v1,{signature}", "", ""]).encode() + body


async def test_receiver_takes_what_is_signed_and_asks_the_feed_after_a_restore(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "/api/v1/changes?after=1&limit=1": [said(410, {"resume": "0", "lost_since": "2026-12-01T08:01:00Z"})],
        f"/api/v1/dossiers/{A}": [said(200, {"version": 2})],
        f"/api/v1/dossiers/{B}": [said(404, {})],
    }
    ping = {"type": "vn.hoso24.ping", "subject": "k5x2m7q3t6v4wz2a"}
    pages = [
        {"events": [ping], "next": "0"},
        {"events": [event(A, 1), event(B, 1, minute=1)], "next": "1"},
        {"events": [event(A, 1)], "next": "0"},
        {"events": [event(A, 2, epoch=2, minute=5)], "next": "2"},
    ]
    async with at_work(answers, monkeypatch) as (partners, record, _):
        for each in pages:
            partners._deliver(delivery(json.dumps(each).encode()), 0.0)
        async with asyncio.timeout(10):
            await asyncio.gather(*partners._rereads)
        assert partners.books["webhook"].versions == {A: (2, 2)}
        assert record.window(0.0).total == 0
        partners._deliver(delivery(b'{"events": []}', SECRET.replace("A", "B")), 0.0)
        (seen,) = record.window(0.0, None, "webhook")
    assert (seen.outcome, seen.why) == ("wrong", "a delivery whose signature does not verify")
