"""Bodies of POST /api/v1/sync as clients, proxies and networks make them: cut, slow, long, in other encodings."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from intake.partners import sync as syncs
from intake.partners.lines import LONGEST_LINE
from intake.partners.sync import MOST_BYTES
from tests.conftest import Database
from tests.house import House, new_token, until
from tests.intake.test_sync import PATH, TYPE, body, new, office, owner, results, send, sound, step, told

__all__ = ["office", "owner"]


@pytest.mark.parametrize(
    "spelt",
    [
        lambda text: text.rstrip(b"\n"),
        lambda text: b"\xef\xbb\xbf" + text,
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: b"\n\n" + text.replace(b"\n", b"\n \n\n"),
    ],
    ids=["no newline at the end", "byte order mark", "CRLF", "empty lines"],
)
async def test_spelling_of_a_body_does_not_matter(office: House, spelt: Any) -> None:
    status, answers = await send(office, spelt(body(new(1), step(1, "processing", 2))))
    assert (status, results(answers[:-1])) == (200, ["created", "applied"])
    assert answers[-1]["complete"] is True


async def test_number_of_a_line_counts_empty_ones(office: House) -> None:
    _, answers = await send(office, b"\n\n" + body(new(1)))
    assert answers[0]["line"] == 3


@pytest.mark.parametrize(
    ("content", "codes"),
    [
        (b"", []),
        (b"\n \n", []),
        (json.dumps([new(1)]).encode(), ["invalid_content"]),
        (b"{\n}", ["malformed_json", "malformed_json"]),
        (body(new(1))[:-20], ["malformed_json"]),
        (b"\xff\xfe" + json.dumps(new(1)).encode("utf-16-le"), ["invalid_content"]),
        (b'{"id":"a","id":"b","dossier":"G99.01.01-261008-0001","status":"processing"}', ["invalid_content"]),
        (b'{"id":"a","dossier":"G99.01.01-261008-0001","create":{"agency":"a","agency":"b"}}', ["invalid_content"]),
        (b'{"id":"a","dossier":"G99.01.01-261008-0001","note":"\\ud800","status":"processing"}', ["malformed_json"]),
        (b'{"id":"a\\u0000","dossier":"G99.01.01-261008-0001","status":"processing"}', ["invalid_content"]),
        (b'{"id":"a\x00","dossier":"G99.01.01-261008-0001","status":"processing"}', ["invalid_content"]),
        (b"[" * 60_000, ["malformed_json"]),
        (b'{"id":"\xe1\xba"}', ["malformed_json"]),
        (b"x" * (LONGEST_LINE + 1), ["line_too_long"]),
        (b"x" * LONGEST_LINE, ["malformed_json"]),
        (b"x" * 5_000_000 + b"\n{", ["line_too_long", "malformed_json"]),
    ],
)  # fmt: skip
async def test_what_is_no_line_is_told(office: House, owner: Any, content: bytes, codes: list[str]) -> None:
    status, answers = await send(office, content)
    assert (status, [each["code"] for each in answers[:-1]]) == (200, codes)
    assert answers[-1] == {
        "summary": dict.fromkeys(("applied", "created", "duplicate", "kept", "rejected", "not_done"), 0)
        | {"rejected": len(codes)},
        "complete": True,
    }
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0


async def test_longest_line_is_read(office: House) -> None:
    line = body(new(1)).rstrip()
    padded = line[:-1] + b" " * (LONGEST_LINE - len(line)) + b"}"
    assert len(padded) == LONGEST_LINE
    (answer,) = await told(office, padded)
    assert answer["result"] == "created"


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "application/json"}, 415, "unsupported_media_type"),
        ({"Content-Type": "application/x-ndjson; charset=utf-16"}, 415, "unsupported_media_type"),
        ({"Content-Encoding": "gzip"}, 415, "unsupported_content_coding"),
        ({"Authorization": "Bearer nonsense"}, 401, "unauthenticated"),
    ],
)
async def test_what_is_refused_before_any_line(
    office: House, owner: Any, headers: dict[str, str], status: int, code: str
) -> None:
    answered, problem = await send(office, body(new(1)), **headers)
    assert (answered, problem["code"]) == (status, code)
    assert await owner.fetchval("SELECT count(*) FROM dossier") == 0


@pytest.mark.parametrize("kind", ["application/jsonl", "application/x-ndjson; charset=UTF-8"])
async def test_both_types_are_taken(office: House, kind: str) -> None:
    assert (await send(office, body(new(1)), **{"Content-Type": kind}))[0] == 200


async def test_client_without_the_action_is_refused(office: House, database: Database) -> None:
    token = await new_token(database, "G99", ("receive", "move"))
    status, problem = await send(office, body(new(1)), token=token)
    assert (status, problem["code"]) == (403, "out_of_scope")


async def test_body_that_says_that_it_is_too_large_is_refused_before_it_is_read(office: House) -> None:
    connection = await connected(office)
    try:
        await begin(connection, office, **{"Content-Length": str(MOST_BYTES + 1)})
        assert (await read_head(connection)).startswith(b"HTTP/1.1 413")
    finally:
        connection.close()


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_body_that_turns_out_too_large_is_worked_on_up_to_there(office: House, owner: Any) -> None:
    status, answers = await send(office, pieces(body(new(1)), *([b" " * 60_000 + b"\n"] * 280)))
    assert (status, results(answers[:-1]), answers[-1]["complete"]) == (200, ["created"], False)


async def test_line_beyond_the_last_that_is_taken_is_not_done(office: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs, "MOST_LINES", 3)
    status, answers = await send(office, body(*(new(n) for n in range(1, 6))))
    assert (status, results(answers[:-1])) == (200, ["created"] * 3 + ["not_done"])
    assert answers[3] == {"line": 4, "id": "c4", "result": "not_done", "code": "too_long"}
    assert answers[-1]["complete"] is False
    assert answers[-1]["retry_after"] == 1


# -- slow, cut and absent clients -------------------------------------------------------------------------------------


async def connected(office: House) -> asyncio.StreamWriter:
    where = urlsplit(office.intake_url)
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    writer._reader_of_test = reader  # type: ignore[attr-defined]
    return writer


async def begin(writer: asyncio.StreamWriter, office: House, **headers: str) -> None:
    lines = {"Host": "test", "Authorization": f"Bearer {office.token}"} | TYPE | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    writer.write(f"POST {PATH} HTTP/1.1\r\n{head}\r\n".encode())
    await writer.drain()


async def read_head(writer: asyncio.StreamWriter) -> bytes:
    reader: asyncio.StreamReader = writer._reader_of_test  # type: ignore[attr-defined]
    return await reader.readuntil(b"\r\n\r\n")


async def test_body_that_is_cut_anywhere_and_sent_again_is_recorded_once(
    office: House, owner: Any, database: Database
) -> None:
    whole = body(new(1), step(1, "processing", 2))
    for cut in range(0, len(whole), 7):
        connection = await connected(office)
        await begin(connection, office, **{"Content-Length": str(len(whole))})
        connection.write(whole[:cut])
        await connection.drain()
        connection.close()
    answers = await sent_until_free(office, whole)
    assert {each["result"] for each in answers[:-1]} <= {"created", "applied", "duplicate"}
    assert await owner.fetchval("SELECT count(*) FROM event") == 2
    await sound(database)


async def sent_until_free(office: House, content: bytes) -> list[dict[str, Any]]:
    """The answers, once the client's synchronisation before it has ended."""

    async def answered() -> list[dict[str, Any]] | None:
        status, answers = await send(office, content)
        assert status == 200 or answers["code"] == "sync_running"
        return list(answers) if status == 200 else None

    found: list[dict[str, Any]] = await until(answered)
    return found


async def test_second_synchronisation_of_a_client_is_refused_while_the_first_runs(
    office: House, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, read = asyncio.Event(), syncs._Body._next

    async def noted(body: Any, until: float) -> bytes:
        reading.set()
        return await read(body, until)

    monkeypatch.setattr(syncs._Body, "_next", noted)
    connection = await connected(office)
    await begin(connection, office, **{"Transfer-Encoding": "chunked"})
    first = body(new(1))
    connection.write(b"%x\r\n%s\r\n" % (len(first), first))
    await connection.drain()
    await reading.wait()
    status, problem = await send(office, body(new(2)))
    assert (status, problem["code"]) == (409, "sync_running")
    other = await new_token(database)
    assert (await send(office, body(new(3)), token=other))[0] == 200
    connection.write(b"0\r\n\r\n")
    assert (await read_head(connection)).startswith(b"HTTP/1.1 200")
    connection.close()
    assert (await send(office, body(new(2))))[0] == 200


async def test_client_that_falls_silent_is_answered_for_what_has_committed(
    office: House, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syncs, "SILENCE", 0.2)
    connection = await connected(office)
    await begin(connection, office, **{"Content-Length": "100000"})
    connection.write(body(new(1)) + b'{"id": "half')
    head = await read_head(connection)
    assert head.startswith(b"HTTP/1.1 200")
    reader: asyncio.StreamReader = connection._reader_of_test  # type: ignore[attr-defined]
    lines = [json.loads(line) for line in (await reader.read()).splitlines()]  # to the end: the connection is closed
    assert (results(lines[:-1]), lines[-1]["complete"]) == (["created"], False)
    connection.close()


async def test_client_that_sends_a_byte_at_a_time_is_ended_too(office: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syncs, "LONGEST", 0.5)
    connection = await connected(office)
    await begin(connection, office, **{"Content-Length": "100000"})
    answer = asyncio.create_task(read_head(connection))
    for byte in body(new(1)) * 100:
        if answer.done():
            break
        connection.write(bytes([byte]))
        await asyncio.sleep(0.02)
    assert (await answer).startswith(b"HTTP/1.1 200")
    connection.close()


async def test_client_that_never_reads_has_everything_recorded(office: House, owner: Any) -> None:
    connection = await connected(office)
    whole = body(*(new(n) for n in range(1, 301)))
    await begin(connection, office, **{"Content-Length": str(len(whole))})
    connection.write(whole)
    await connection.drain()
    await until(lambda: owner.fetchval("SELECT count(*) = 300 FROM dossier"))
    await sent_until_free(office, b"")
    connection.close()


async def test_client_that_leaves_does_not_cancel_a_commit(
    office: House, owner: Any, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes while its batch waits for a lock; what was begun is committed."""
    await told(office, new(1))
    holder = await asyncpg.connect(database.owner_url)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("SELECT FROM dossier FOR UPDATE")
    connection = await connected(office)
    line = body(step(1, "processing", 2))
    await begin(connection, office, **{"Content-Length": str(len(line))})
    connection.write(line)
    await connection.drain()
    await until(lambda: owner.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
    connection.transport.abort()
    await transaction.rollback()
    await holder.close()
    answers = await sent_until_free(office, line)
    assert results(answers[:-1]) == ["duplicate"]
    assert await owner.fetchval("SELECT status FROM dossier") == 4
