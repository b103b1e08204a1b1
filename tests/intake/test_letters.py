"""Lines that were refused: how they are kept, to whom they are shown, and how they come to an end."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import asyncpg
import pytest
from prometheus_client import REGISTRY

from intake import app
from intake.clients import Client
from intake.partners import letters
from intake.partners.letters import LONGEST, Letters, RefusedLine, close, keep, stored
from ops.errors import Unavailable
from ops.stores.postgres import Postgres
from tests.conftest import Database
from tests.house import AGENCY, intake_at, intake_settings, new_client, submission

CODE = "G99.01.01-261130-0001"
LINE = json.dumps({"id": "a", "dossier": CODE, "status": "processing", "note": "Bà Mẫu (hư cấu)"}, ensure_ascii=False)
ROWS = "SELECT n, client, source_event_id, line, error, detail, seen, closed_at IS NOT NULL FROM dead_letter ORDER BY n"
READS = "SELECT reader, client, code, screen FROM personal_read ORDER BY code"


def line(name: str | None, text: str = LINE, error: str = "unknown_agency", detail: str = "Why.") -> RefusedLine:
    return RefusedLine(name, text.encode(), error, detail)


async def rows(owner: Any) -> list[tuple[Any, ...]]:
    """Without their numbers."""
    return [tuple(row)[1:] for row in await owner.fetch(ROWS)]


async def reads(owner: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await owner.fetch(READS)]


# -- keeping and closing -------------------------------------------------------------------------------------------


@pytest.fixture
async def clients(database: Database) -> dict[str, str]:
    """Two clients that synchronise, and one that does not; their tokens."""
    return {
        "so-mau": await new_client(database, "so-mau", actions=("sync",)),
        "other": await new_client(database, "other", actions=("sync",)),
        "desk": await new_client(database, "desk", actions=("receive", "read")),
    }


@pytest.mark.usefixtures("clients")
async def test_refused_line_is_kept_once_and_counted(writer: Any, owner: Any) -> None:
    await keep(writer, "so-mau", [line("a"), line("b", error="bad_date"), line("a", "{}", detail="Again.")])
    await keep(writer, "other", [line("a")])
    assert await rows(owner) == [
        ("so-mau", "a", "{}", "unknown_agency", "Again.", 2, False),
        ("so-mau", "b", LINE, "bad_date", "Why.", 1, False),
        ("other", "a", LINE, "unknown_agency", "Why.", 1, False),
    ]
    await owner.execute("UPDATE dead_letter SET first_at = first_at - interval '1 day', last_at = first_at")
    await keep(writer, "so-mau", [line("a", error="out_of_scope")])
    assert (await rows(owner))[0] == ("so-mau", "a", LINE, "out_of_scope", "Why.", 3, False)
    assert await owner.fetchval("SELECT last_at - first_at > interval '23 hours' FROM dead_letter WHERE n = 1")
    await keep(writer, "so-mau", [])


@pytest.mark.usefixtures("clients")
async def test_letter_that_is_applied_later_is_closed_and_keeps_no_line(writer: Any, owner: Any) -> None:
    await keep(writer, "so-mau", [line("a"), line("b")])
    await keep(writer, "other", [line("a")])
    await owner.execute("UPDATE dead_letter SET first_at = first_at - interval '1 day'")
    await close(writer, "so-mau", ["a", "never refused"])
    await close(writer, "so-mau", [])
    assert await rows(owner) == [
        ("so-mau", "a", "", "unknown_agency", "Why.", 1, True),
        ("so-mau", "b", LINE, "unknown_agency", "Why.", 1, False),
        ("other", "a", LINE, "unknown_agency", "Why.", 1, False),
    ]
    await keep(writer, "so-mau", [line("a")])  # refused again it begins anew
    assert (await rows(owner))[0] == ("so-mau", "a", LINE, "unknown_agency", "Why.", 1, False)
    assert await owner.fetchval("SELECT first_at = last_at FROM dead_letter WHERE n = 1")


@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize("name", [None, "", " ", "a\0b", "a\nb", "\ud800"])
async def test_line_without_a_readable_id_has_its_digest(writer: Any, owner: Any, name: str | None) -> None:
    await keep(writer, "so-mau", [line(name, "one"), line(name, "two"), line(name, "one")])
    found = {row[2]: (row[1], row[5]) for row in await rows(owner)}
    assert found == {
        "one": ("sha256:7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed", 2),
        "two": ("sha256:3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3", 1),
    }


@pytest.mark.usefixtures("clients")
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"\xff\xfe{\x00", "\ufffd\ufffd{\ufffd"),
        (b"x" * 70_000, "x" * LONGEST),
        ("ề".encode() * 30_000, "ề" * (LONGEST // 3)),
        (b"\xff" * 70_000, "\ufffd" * (LONGEST // 3)),
        (b"", ""),
    ],
)
async def test_line_is_kept_as_far_as_it_can_be(writer: Any, owner: Any, sent: bytes, expected: str) -> None:
    await keep(writer, "so-mau", [RefusedLine("a", sent, "malformed_json", "Why.")])
    assert await owner.fetchval("SELECT line FROM dead_letter") == expected == stored(sent)


@pytest.mark.usefixtures("clients")
async def test_bodies_with_the_same_ids_in_another_order_do_not_lock_each_other_up(
    database: Database, writer: Any, owner: Any
) -> None:
    other = await asyncpg.connect(database.writer_url)
    lines = [line(f"{n:04}") for n in range(500)]
    try:
        for _ in range(5):
            await asyncio.gather(
                keep(writer, "so-mau", lines),
                keep(other, "so-mau", lines[::-1]),
            )
    finally:
        await other.close()
    assert await owner.fetchval("SELECT array_agg(DISTINCT seen) FROM dead_letter") == [10]


# -- the endpoints -------------------------------------------------------------------------------------------------


@dataclass
class Partner:
    """A client that talks to the intake."""

    http: aiohttp.ClientSession
    url: str
    tokens: dict[str, str]

    async def __call__(self, method: str, path: str = "", client: str = "so-mau") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {self.tokens[client]}"}
        async with self.http.request(method, f"{self.url}/api/v1/dead-letters{path}", headers=headers) as response:
            return response.status, await response.json()


@dataclass
class Result:
    """What a synchronisation says of a line."""

    result: str
    id: str | None = None
    code: str | None = None
    detail: str | None = None
    dossier: str | None = None
    version: int | None = None
    lookup_key: str | None = None
    flags: list[str] | None = None


@dataclass
class Applies:
    """Stands for what a synchronisation does with lines: the next result, and what it was given."""

    next: Result
    given: list[tuple[str, list[bytes]]]

    async def __call__(self, client: Any, lines: Sequence[bytes]) -> list[Result]:
        self.given.append((client.id, list(lines)))
        return [self.next]


@pytest.fixture
def applies(monkeypatch: pytest.MonkeyPatch) -> Applies:
    applies = Applies(Result("applied"), [])
    monkeypatch.setattr(app, "Letters", lambda postgres, _: Letters(postgres, applies))
    return applies


@pytest.fixture
async def partner(database: Database, clients: dict[str, str], applies: Applies) -> AsyncIterator[Partner]:
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield Partner(http, url, clients)


async def test_client_is_shown_its_own_open_letters_page_by_page_and_that_is_logged(
    partner: Partner, writer: Any, owner: Any
) -> None:
    names = [f"{n}" for n in range(5)]
    await keep(writer, "so-mau", [line(name, LINE if name == "0" else f"no json {name}") for name in names])
    await keep(writer, "other", [line("x")])
    await close(writer, "so-mau", ["1"])
    status, first = await partner("GET", "?limit=2")
    assert status == 200
    assert [letter["id"] for letter in first["letters"]] == ["0", "2"]
    assert first["letters"][0] | {"first_at": "", "last_at": ""} == {
        "n": 1,
        "id": "0",
        "line": LINE,
        "error": "unknown_agency",
        "detail": "Why.",
        "seen": 1,
        "first_at": "",
        "last_at": "",
    }
    assert first["letters"][0]["first_at"].endswith("+07:00")
    status, second = await partner("GET", f"?limit=2&after={first['next']}")
    assert ([letter["id"] for letter in second["letters"]], second["next"]) == (["3", "4"], None)
    by = ("so-mau", "so-mau")
    assert await reads(owner) == [(*by, CODE, "dead letter")] + [
        (*by, f"dead letter {n}", "dead letter") for n in (3, 4, 5)
    ]
    assert await partner("GET", "?after=9") == (200, {"letters": [], "next": None})
    assert len(await reads(owner)) == 4


async def test_nothing_is_shown_that_cannot_be_logged(partner: Partner, writer: Any, owner: Any) -> None:
    await keep(writer, "so-mau", [line("a")])
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    status, problem = await partner("GET")
    assert (status, "Mẫu" in json.dumps(problem, ensure_ascii=False)) == (503, False)


@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=101", "limit=x", "limit=", "after=-1", "after=1.5", f"after={2**63}", "limit=٣", "page=2"],
)
async def test_bound_that_is_none_is_refused(partner: Partner, query: str) -> None:
    status, problem = await partner("GET", f"?{query}")
    assert (status, problem["code"]) == (400, "invalid_parameter")
    assert query.partition("=")[0] in problem["detail"]


async def test_client_that_may_not_synchronise_is_shown_none(partner: Partner) -> None:
    for method, path in (("GET", ""), ("POST", "/1/replay"), ("DELETE", "/1")):
        status, problem = await partner(method, path, "desk")
        assert (status, problem["code"]) == (403, "out_of_scope")


@pytest.mark.parametrize(("method", "path"), [("POST", "/{}/replay"), ("DELETE", "/{}")])
async def test_letter_of_another_client_is_as_one_there_is_not(
    partner: Partner, applies: Applies, writer: Any, owner: Any, method: str, path: str
) -> None:
    await keep(writer, "so-mau", [line("a"), line("b")])
    await close(writer, "so-mau", ["b"])
    answers = [await partner(method, path.format(n), "other") for n in (1, 2, 3, 0, -1, 2**63, "9" * 300, "x", "٣")]
    answers.append(await partner(method, path.format(2)))  # its own, and closed
    assert {(status, problem["code"]) for status, problem in answers} == {(404, "dead_letter_not_found")}
    assert applies.given == []
    assert [row[6] for row in await rows(owner)] == [False, True]


@pytest.mark.parametrize("result", ["applied", "created", "kept", "duplicate"])
async def test_replayed_line_that_is_applied_closes_its_letter(
    partner: Partner, applies: Applies, writer: Any, owner: Any, result: str
) -> None:
    await keep(writer, "so-mau", [line("a")])
    applies.next = Result(result, dossier=CODE, version=3, lookup_key="k", flags=["late"])
    expected = {"n": 1, "result": result, "closed": True, "dossier": CODE, "version": 3}
    assert await partner("POST", "/1/replay") == (200, expected | {"lookup_key": "k", "flags": ["late"]})
    assert applies.given == [("so-mau", [LINE.encode()])]
    assert await rows(owner) == [("so-mau", "a", "", "unknown_agency", "Why.", 1, True)]
    assert (await partner("POST", "/1/replay"))[0] == 404


@pytest.mark.parametrize(
    ("result", "kept"), [("rejected", ("bad_date", "Too early.")), ("not_done", ("unknown_agency", "Why."))]
)
async def test_replayed_line_that_is_not_applied_stays(
    partner: Partner, applies: Applies, writer: Any, owner: Any, result: str, kept: tuple[str, str]
) -> None:
    await keep(writer, "so-mau", [line("a")])
    applies.next = Result(result, code="bad_date", detail="Too early.")
    told = {"n": 1, "result": result, "closed": False, "code": "bad_date", "detail": "Too early."}
    assert await partner("POST", "/1/replay") == (200, told)
    assert await rows(owner) == [("so-mau", "a", LINE, *kept, 1, False)]


@pytest.mark.parametrize("sent", [b'{"id": "a", "note": "\xff"}', b'{"id": "' + b"a" * LONGEST, b"\0{}"])
async def test_line_that_was_not_kept_whole_is_not_replayed(
    partner: Partner, applies: Applies, writer: Any, sent: bytes
) -> None:
    await keep(writer, "so-mau", [RefusedLine("a", sent, "malformed_json", "Why.")])
    status, problem = await partner("POST", "/1/replay")
    assert (status, problem["code"], applies.given) == (409, "dead_letter_incomplete", [])


async def test_letter_that_is_given_up_keeps_no_line(partner: Partner, writer: Any, owner: Any) -> None:
    await keep(writer, "so-mau", [line("a")])
    status, told = await partner("DELETE", "/1")
    assert (status, told["n"], told["id"], told["closed_at"][-6:]) == (200, 1, "a", "+07:00")
    assert await rows(owner) == [("so-mau", "a", "", "unknown_agency", "Why.", 1, True)]
    assert await partner("GET") == (200, {"letters": [], "next": None})


# -- beside real synchronisations ----------------------------------------------------------------------------------


@pytest.fixture
async def office(database: Database, clients: dict[str, str]) -> AsyncIterator[Partner]:
    """The intake as it is."""
    async with intake_at(intake_settings(database.writer_url)) as url, aiohttp.ClientSession() as http:
        yield Partner(http, url, clients)


async def synchronised(office: Partner, *lines: Any) -> list[str]:
    """The results of these lines, or the codes of those that were refused."""
    body = b"\n".join(each if isinstance(each, bytes) else json.dumps(each).encode() for each in lines)
    headers = {"Authorization": f"Bearer {office.tokens['so-mau']}", "Content-Type": "application/x-ndjson"}
    async with office.http.post(f"{office.url}/api/v1/sync", data=body, headers=headers) as response:
        *answers, end = [json.loads(each) for each in (await response.text()).splitlines()]
    assert end["complete"] is True
    return [each.get("code") or each["result"] for each in answers]


def creates(name: str, n: int = 1, **fields: Any) -> dict[str, Any]:
    return {"id": name, "dossier": f"{AGENCY}-261008-{n:04}", "source_seq": 1, "create": submission(**fields)}


async def is_open(owner: Any) -> dict[str, tuple[str, int]]:
    """The open letters by id: code and how often seen."""
    rows = await owner.fetch("SELECT source_event_id, error, seen FROM dead_letter WHERE closed_at IS NULL")
    return {row["source_event_id"]: (row["error"], row["seen"]) for row in rows}


async def test_refused_line_is_a_letter_until_its_id_is_applied(office: Partner, owner: Any) -> None:
    wrong, long = creates("a", 9, agency="G77"), b'{"id": "long", "note": "' + b"x" * 70_000
    assert await synchronised(office, creates("b"), wrong, b"{nonsense", long, b'{"id": "c", "status": 7}') == [
        *("created", "unknown_agency", "malformed_json", "line_too_long", "invalid_content")
    ]
    digest = "sha256:" + hashlib.sha256(b"{nonsense").hexdigest()
    of_long = "sha256:" + hashlib.sha256(long[:LONGEST]).hexdigest()
    assert await is_open(owner) == {
        "a": ("unknown_agency", 1),
        "c": ("invalid_content", 1),
        digest: ("malformed_json", 1),
        of_long: ("line_too_long", 1),
    }
    _, page = await office("GET")
    assert {each["id"]: len(each["line"]) for each in page["letters"]}[of_long] == LONGEST
    assert json.loads(next(each["line"] for each in page["letters"] if each["id"] == "a")) == wrong
    assert await synchronised(office, wrong, creates("b")) == ["unknown_agency", "duplicate"]
    assert (await is_open(owner))["a"] == ("unknown_agency", 2)
    assert await synchronised(office, creates("a", 2), creates("c", 3)) == ["created", "created"]
    assert (await is_open(owner)).keys() == {digest, of_long}


async def test_of_two_lines_with_one_id_the_later_counts(office: Partner, owner: Any) -> None:
    wrong = creates("a", agency="G77")
    assert await synchronised(office, wrong, creates("a")) == ["unknown_agency", "created"]
    assert await is_open(owner) == {}
    other = creates("a", 2)
    assert await synchronised(office, creates("a"), other) == ["duplicate", "id_reused"]
    assert await is_open(owner) == {"a": ("id_reused", 1)}
    assert await synchronised(office, creates("a")) == ["duplicate"]  # that is not the change that was refused
    assert await is_open(owner) == {"a": ("id_reused", 1)}


async def test_thousands_of_refused_lines_are_kept_as_they_come(office: Partner, owner: Any) -> None:
    wrong = [creates(f"{n}", n, agency="G77") for n in range(1, 400)]
    unread = [b'{"id": "u%d"}' % n for n in range(400)]
    assert set(await synchronised(office, *wrong, *unread)) == {"unknown_agency", "invalid_content"}
    assert len(await is_open(owner)) == 799


async def test_line_is_applied_again_once_what_was_missing_is_there(
    database: Database, office: Partner, owner: Any
) -> None:
    await synchronised(office, creates("a", agency="G77"))
    status, told = await office("POST", "/1/replay")
    assert (status, told["result"], told["closed"], told["code"]) == (200, "rejected", False, "unknown_agency")
    await owner.execute(
        "INSERT INTO agency (code, parent, name_vi, name_en, valid_from, sample) "
        "VALUES ('G77', 'G99', 'x', 'x', '2020-01-01', true)"
    )
    async with intake_at(intake_settings(database.writer_url)) as url:  # it has read the catalogue
        office.url = url
        status, told = await office("POST", "/1/replay")
    assert (status, told["result"], told["closed"], told["version"]) == (200, "created", True, 1)
    assert len(told["lookup_key"]) > 10
    assert await is_open(owner) == {}
    event = await owner.fetchrow("SELECT source, source_event_id, agency FROM event")
    assert tuple(event) == ("so-mau", "a", "G77")


# -- by an operator ------------------------------------------------------------------------------------------------


async def test_what_an_operator_does_is_in_the_log_of_reads(
    clients: dict[str, str], database: Database, writer: Any, owner: Any
) -> None:
    await keep(writer, "so-mau", [line("a"), line("b"), line("c")])
    assert [row["source_event_id"] for row in await letters.listed(writer, "so-mau")] == ["a", "b", "c"]
    assert await letters.listed(writer, "other") == []
    assert await reads(owner) == []  # a list has no lines
    assert (await letters.show(writer, 1, by="an"))["line"] == LINE
    await letters.drop(writer, 2, by="an")

    async def find(client: str) -> Client:
        return Client(client, "Mẫu", "G99", frozenset({"sync"}))

    applies = Applies(Result("applied"), [])
    assert (await letters.replay_as(writer, 3, find, applies, by="an")).closed
    assert applies.given == [("so-mau", [LINE.encode()])]
    assert sorted(row[3] for row in await reads(owner)) == [
        "dead letter",
        "dead letter dropped",
        "dead letter replayed",
    ]
    await owner.execute("REVOKE INSERT ON personal_read FROM hoso24_writer")
    for refused in (letters.show, letters.drop):
        with pytest.raises(Unavailable):
            await refused(writer, 1, by="an")
    assert [row[6] for row in await rows(owner)] == [False, True, True]


# -- the count -----------------------------------------------------------------------------------------------------


async def test_open_letters_are_counted(
    database: Database, clients: dict[str, str], writer: Any, owner: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def counted() -> tuple[float | None, float | None]:
        names = ("intake_dead_letters", "intake_oldest_dead_letter_seconds")
        return tuple(REGISTRY.get_sample_value(name) for name in names)  # type: ignore[return-value]

    postgres = Postgres("postgres", lambda: database.writer_url, size=1, deadline=5)
    of: Callable[[], Any] = Letters(postgres, Applies(Result("applied"), [])).count
    try:
        await of()
        assert counted() == (0, 0)
        await keep(writer, "so-mau", [line("a"), line("b"), line("c")])
        await owner.execute("UPDATE dead_letter SET first_at = now() - interval '2 days' WHERE n > 1")
        await close(writer, "so-mau", ["c"])
        await keep(writer, "other", [line("d")])
        await owner.execute("UPDATE client SET sandbox = true WHERE id = 'other'")
        await of()
        letters_open, oldest = counted()
        assert letters_open == 2
        assert oldest == pytest.approx(172_800, abs=60)
        await owner.execute("REVOKE SELECT ON dead_letter FROM hoso24_writer")
        await of()  # a count that fails ends nothing
        assert counted() == (letters_open, oldest)
    finally:
        await postgres.close()


MANY = """
INSERT INTO dead_letter (client, source_event_id, line, error, detail, closed_at)
SELECT client, n, repeat('x', 600), 'unknown_agency', '', CASE WHEN n % 50 > 0 THEN now() END
  FROM generate_series(1, 20000) AS n, (VALUES ('so-mau'), ('other')) AS of (client)
"""


@pytest.mark.usefixtures("clients")
async def test_open_letters_are_read_by_their_index(writer: Any, owner: Any) -> None:
    await owner.execute(MANY)
    await owner.execute("VACUUM ANALYZE dead_letter")
    for n, (sql, arguments) in enumerate(((letters.PAGE, "('so-mau', 5, 101)"), (letters.OPEN, ""))):
        await writer.execute(f"PREPARE s{n} AS {sql}")
        plan = "\n".join(row[0] for row in await writer.fetch(f"EXPLAIN EXECUTE s{n} {arguments}"))
        assert "dead_letter_open" in plan, plan
        assert "Seq Scan on dead_letter" not in plan, plan
