"""The JSON API over one dossier, without servers: what a request may say, and what each answer is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from lookup.clock import microseconds
from lookup.dossier import Record
from lookup.situation import completion
from lookup.status import Status
from lookup.web.answers import PATH
from lookup.web.api import MalformedLookups
from ops.errors import Malformed
from tests.lookup.offline import Offline

AT = datetime(2026, 11, 22, 5, tzinfo=UTC)
RECORD = Record(code="G99.01.01-261120-0001", version=3, status=4, service="S.004", agency="G99.01.01", submitted_at=AT)
LOOKUPS = "/api/v1/lookups"


def offline() -> Offline:
    return Offline(RECORD, microseconds(AT))


async def looked_up(body: bytes | Any) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await offline().ask(LOOKUPS, method="POST", body=raw)
    assert (response.status, response.headers["Cache-Control"]) == (200, "no-store")
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        [],
        {},
        {"dossiers": []},
        {"dossiers": [{}]},
        {"dossiers": [{"code": 1}]},
        {"dossiers": [{"code": RECORD.code}], "more": 1},
        {"dossiers": [{"code": RECORD.code, "lookup_key": "misspelt"}]},
        {"dossiers": [{"code": RECORD.code}] * 101},
    ],
)
async def test_batch_in_another_form_is_refused_whole(body: Any) -> None:
    with pytest.raises(MalformedLookups) as refusal:
        await looked_up(body)
    assert refusal.value.detail


@pytest.mark.parametrize("count", [0, 101])
async def test_batch_of_another_size_is_told_the_sizes_in_both_languages(count: int) -> None:
    with pytest.raises(MalformedLookups) as refusal:
        await looked_up({"dossiers": [{"code": RECORD.code}] * count})
    assert refusal.value.detail == "Between 1 and 100 dossiers can be looked up at once."
    assert refusal.value.detail_vi == "Mỗi lần tra cứu được từ 1 đến 100 hồ sơ."


@pytest.mark.parametrize("count", [1, 2, 100])
async def test_batch_of_up_to_a_hundred_is_answered_in_order(count: int) -> None:
    dossiers = [{"code": RECORD.code}, *({"code": f"nonsense {n}"} for n in range(count - 1))]
    found, *malformed = (await looked_up({"dossiers": dossiers}))["results"]
    assert (found["code"], found["dossier"]["version"]) == (RECORD.code, 3)
    assert [(each["code"], each["error"]) for each in malformed] == [
        (f"nonsense {n}", "malformed_code") for n in range(count - 1)
    ]


@pytest.mark.parametrize("text", ["1", "3", "03", "0000000003"])
async def test_version_that_is_asked_for_is_a_whole_number(text: str) -> None:
    response = await offline().ask(f"{PATH}{RECORD.code}?at_least={text}")
    assert response.status == 200


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "x", "٣", "²", "2147483648", "00000000003", "9" * 5000])
async def test_any_other_is_malformed(text: str) -> None:
    with pytest.raises(Malformed, match="a whole number from 1 to 2147483647"):
        await offline().ask(f"{PATH}{RECORD.code}?at_least={text}")


@pytest.mark.parametrize(("query", "kept"), [("", ""), ("?at_least=3", "?at_least=3"), ("?other=3", "")])
async def test_other_spelling_is_sent_to_the_canonical_one_with_its_query(query: str, kept: str) -> None:
    with pytest.raises((web.HTTPMovedPermanently, web.HTTPPermanentRedirect)) as moved:
        await offline().ask(f"{PATH}{RECORD.code.lower()}{query}")
    assert moved.value.location == f"{PATH}{RECORD.code}{kept}"


async def test_statuses_are_listed_with_their_moves() -> None:
    response = await offline().ask("/api/v1/statuses")
    assert response.headers["Cache-Control"] == "public, max-age=3600"
    assert isinstance(response.body, bytes)
    listed = json.loads(response.body)["statuses"]
    assert [each["status_number"] for each in listed] == list(range(1, 11))
    for each, status in zip(listed, Status, strict=True):
        assert (each["status"], each["final"], each["completion"]) == (
            status.slug,
            status.final,
            completion(status, False, ()),
        )
        assert each["next"] == [after.slug for after in Status if status.may_become(after)]
