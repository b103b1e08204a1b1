"""Dead letters: the lines of a synchronisation that were refused, until the same id is applied, or for thirty days.

A line names persons. Only its own client is shown it, or an operator, each time after a row in the log of reads. A
letter that is closed, applied later or given up, keeps no line. What is open is counted by every intake process.
"""

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Protocol

import asyncpg
import msgspec
from aiohttp import web

from intake import metrics
from intake.admission import ADMISSION, CLIENT
from intake.books.ledger import OPERATOR
from intake.books.reads import note_reads
from intake.clients import Client
from intake.refusals import LetterIncomplete, OutcomeUnknown, UnknownLetter
from lookup import code as codes
from lookup import sandbox
from lookup.clock import Zoned, local
from ops.errors import Unavailable
from ops.http.endpoints import Endpoint
from ops.http.parameters import Parameter
from ops.observe.redaction import first_line
from ops.stores.postgres import Postgres

if TYPE_CHECKING:
    from rich.table import Table

log = logging.getLogger(__name__)

# A letter that was closed begins anew. In the order of the ids, so that two bodies with the same ones wait for each
# other and do not lock each other up.
KEEP = """
INSERT INTO dead_letter AS letter (client, source_event_id, line, error, detail, seen)
SELECT $1, id, line, error, detail, seen
  FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::integer[]) AS refused (id, line, error, detail, seen)
 ORDER BY id
    ON CONFLICT (client, source_event_id) DO UPDATE
   SET line      = excluded.line,
       error     = excluded.error,
       detail    = excluded.detail,
       seen      = CASE WHEN letter.closed_at IS NULL THEN letter.seen ELSE 0 END + excluded.seen,
       first_at  = CASE WHEN letter.closed_at IS NULL THEN letter.first_at ELSE now() END,
       last_at   = now(),
       closed_at = NULL
"""

# An id that was refused as another change's stays refused, however often that other change comes again.
CLOSE = """
UPDATE dead_letter
   SET closed_at = now(), line = ''
 WHERE client = $1
   AND source_event_id = ANY ($2)
   AND error <> 'id_reused'
   AND closed_at IS NULL
"""

CLOSE_ONE = """
UPDATE dead_letter
   SET closed_at = now(), line = ''
 WHERE n = $1
   AND ($2::text IS NULL OR client = $2)
   AND closed_at IS NULL
RETURNING n, source_event_id, closed_at
"""

REFUSED_AGAIN = """
UPDATE dead_letter
   SET error = $2, detail = $3, last_at = now()
 WHERE n = $1
   AND closed_at IS NULL
"""

PAGE = """
SELECT n, source_event_id, line, error, detail, seen, first_at, last_at
  FROM dead_letter
 WHERE client = $1
   AND n > $2
   AND closed_at IS NULL
 ORDER BY n
 LIMIT $3
"""

ONE = """
SELECT n, client, source_event_id, line, error, detail, seen, first_at, last_at
  FROM dead_letter
 WHERE n = $1
   AND ($2::text IS NULL OR client = $2)
   AND closed_at IS NULL
"""

LISTED = """
SELECT n, client, source_event_id, error, seen, first_at, last_at
  FROM dead_letter
 WHERE ($1::text IS NULL OR client = $1)
   AND closed_at IS NULL
 ORDER BY n
"""

OPEN = f"""
SELECT count(*)                                                        AS letters,
       coalesce(extract(epoch FROM now() - min(first_at)), 0)::float8  AS oldest
  FROM dead_letter
 WHERE closed_at IS NULL
   AND {sandbox.OF_REAL_CLIENT}
"""

LETTERS: Final = "/api/v1/dead-letters"
LONGEST: Final = 64 * 1024
"""Bytes that are kept of a line."""
PAGE_MOST: Final = 100
"""Letters of a page; each may have 64 KiB."""
COUNT_EVERY: Final = 60.0
"""Seconds between two counts of what is open."""
SETTLES: Final = frozenset({"applied", "created", "kept", "duplicate"})
"""The results by which a letter that is sent again is closed."""

_HIGHEST: Final = 2**63 - 1
_DAMAGED: Final = "\ufffd"


class RefusedLine(NamedTuple):
    """A line that was refused: its id if that could be read, its bytes as they came, the code and why."""

    id: str | None
    line: bytes
    error: str
    detail: str


class LineResult(Protocol):
    """What became of a line."""

    id: str | None
    result: Any
    dossier: str | None
    version: int | None
    lookup_key: str | None
    flags: list[str] | None
    code: str | None
    detail: str | None


ApplyLines = Callable[[Client, Sequence[bytes]], Awaitable[Sequence[LineResult]]]
"""Applies lines for a client as a synchronisation does; a result for each, in their order."""


class LettersAsked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which page: the letters behind number `after`, at most `limit`."""

    after: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1, description="The number `next` of the page before.")] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_MOST, description="Letters of a page, at most.")] = PAGE_MOST


class DeadLetter(msgspec.Struct, frozen=True):
    """A line that was refused. `line`: as it was sent, its first 64 KiB. `seen`: how often it came."""

    n: int
    id: str
    line: str
    error: str
    detail: str
    seen: int
    first_at: Zoned
    last_at: Zoned


class DeadLetters(msgspec.Struct, frozen=True):
    """A page of them, oldest first. `next`: `after` of the page behind it; null when this is the last."""

    letters: list[DeadLetter]
    next: int | None


class Replayed(msgspec.Struct, frozen=True, omit_defaults=True):
    """What became of the line. `closed`: it is in the books, and the letter is gone. `code` and `detail`: why not."""

    n: int
    result: Literal["applied", "created", "duplicate", "kept", "rejected", "not_done"]
    closed: bool
    dossier: str | None = None
    version: int | None = None
    lookup_key: str | None = None
    flags: list[str] | None = None
    code: str | None = None
    detail: str | None = None


class Dropped(msgspec.Struct, frozen=True):
    """A letter that was given up; the line is deleted."""

    n: int
    id: str
    closed_at: Zoned


# -- what a synchronisation calls ----------------------------------------------------------------------------------


async def keep(connection: Any, client: str, refused: Iterable[RefusedLine]) -> None:
    """Keep these lines for this client, in one statement; a letter of the same id is replaced and counted on.

    A line without a readable id has its digest for one. Raises what the connection raises.
    """
    letters: dict[str, tuple[RefusedLine, int]] = {}
    for each in refused:
        name = _id(each)
        letters[name] = each, letters.get(name, (each, 0))[1] + 1
    if not letters:
        return
    lines, seen = zip(*letters.values(), strict=True)
    texts, errors, details = (
        [stored(each.line) for each in lines],
        [each.error for each in lines],
        [each.detail for each in lines],
    )
    await connection.execute(KEEP, client, list(letters), texts, errors, details, list(seen))


async def close(connection: Any, client: str, applied: Iterable[str]) -> None:
    """Close this client's letters with these ids, which have been applied; others are left alone.

    Raises what the connection raises.
    """
    if ids := sorted(set(applied)):
        await connection.execute(CLOSE, client, ids)


def stored(line: bytes) -> str:
    """The line as text of at most LONGEST bytes; what is no UTF-8, and NUL, is marked as damaged."""
    text = line[:LONGEST].decode("utf-8", "replace").replace("\0", _DAMAGED)
    return text.encode()[:LONGEST].decode("utf-8", "ignore")


def _id(each: RefusedLine) -> str:
    if each.id is not None and each.id.isprintable() and each.id.strip():
        return each.id
    return f"sha256:{hashlib.sha256(each.line).hexdigest()}"


# -- what an operator calls ----------------------------------------------------------------------------------------


async def listed(connection: Any, client: str | None) -> list[Any]:
    """The open letters of this client, or of all, oldest first, without their lines and why they were refused."""
    rows: list[Any] = await connection.fetch(LISTED, client)
    return rows


def table(rows: Iterable[Any]) -> "Table":
    """The rows of `listed`, to print."""
    from rich.table import Table

    table = Table("n", "client", "id", "error", "seen", "first refused", "last refused")
    for row in rows:
        first, last = (f"{local(row[name]):%Y-%m-%d %H:%M}" for name in ("first_at", "last_at"))
        table.add_row(*(str(row[name]) for name in ("n", "client", "source_event_id", "error", "seen")), first, last)
    return table


async def show(connection: Any, n: int, *, by: str) -> Any:
    """An open letter's row with its line, noted in the log of reads first. Raises UnknownLetter, Unavailable."""
    row = await _one(connection, n, None)
    await note_reads(connection, by, OPERATOR, [_whose(n, row["line"])], "dead letter")
    return row


async def drop(connection: Any, n: int, *, by: str) -> None:
    """Give an open letter up. Who did is noted where reads are. Raises UnknownLetter, Unavailable."""
    async with connection.transaction():
        row = await _one(connection, n, None)
        await note_reads(connection, by, OPERATOR, [_whose(n, row["line"])], "dead letter dropped")
        await connection.execute(CLOSE_ONE, n, None)


async def replay_as(
    connection: Any, n: int, find: Callable[[str], Awaitable[Client]], apply_lines: ApplyLines, *, by: str
) -> Replayed:
    """Apply an open letter's line again as its own client, whom `find` finds. Who did is noted where reads are.

    Raises UnknownLetter, LetterIncomplete, Unavailable, and what `find` and `apply_lines` raise.
    """
    row = await _one(connection, n, None)
    client = await find(row["client"])
    await note_reads(connection, by, OPERATOR, [_whose(n, row["line"])], "dead letter replayed")
    return await _replay(connection, row, client, apply_lines)


async def _one(connection: Any, n: int, client: str | None) -> Any:
    rows = await connection.fetch(ONE, n, client)
    if not rows:
        raise UnknownLetter
    return rows[0]


async def _replay(connection: Any, row: Any, client: Client, apply_lines: ApplyLines) -> Replayed:
    n, line = row["n"], row["line"]
    if _DAMAGED in line or len(line.encode()) > LONGEST - len(_DAMAGED.encode()):
        raise LetterIncomplete
    (answer,) = await apply_lines(client, [line.encode()])
    settled = answer.result in SETTLES
    if settled:
        await connection.fetch(CLOSE_ONE, n, client.id)
    elif answer.result == "rejected":
        await connection.fetch(REFUSED_AGAIN, n, answer.code or "", answer.detail or "")
    told = {name: getattr(answer, name) for name in ("dossier", "version", "lookup_key", "flags", "code", "detail")}
    return Replayed(n=n, result=answer.result, closed=settled, **told)


class _Named(msgspec.Struct):
    dossier: str | None = None
    MaHoSo: str | None = None


def _whose(n: int, line: str) -> str:
    """The code of the dossier that the line is about, for the log of reads; else which letter it is."""
    try:
        named = msgspec.json.decode(line, type=_Named)
        return codes.parse(named.dossier or named.MaHoSo or "").text
    except (msgspec.DecodeError, codes.MalformedCode):
        return f"dead letter {n}"


# -- the endpoints -------------------------------------------------------------------------------------------------


_NUMBER = Parameter(
    name="n",
    place="path",
    says="The letter's number.",
    type=Annotated[int, msgspec.Meta(ge=1)],
    required=True,
    example=1,
)


class Letters:
    """The endpoints for the letters of a client, and their count. `apply_lines` is what a synchronisation does."""

    def __init__(self, postgres: Postgres, apply_lines: ApplyLines) -> None:
        self._postgres = postgres
        self._apply_lines = apply_lines

    def endpoints(self) -> list[Endpoint]:
        """Everything below /api/v1/dead-letters."""
        return [
            Endpoint(
                method="GET",
                path=LETTERS,
                handler=self.page,
                name="dead_letters",
                asks=LettersAsked,
                gives=DeadLetters,
                refuses=ADMISSION,
                action="sync",
            ),
            Endpoint(
                method="POST",
                path=f"{LETTERS}/{{n}}/replay",
                handler=self.replay,
                name="replay_dead_letter",
                parameters=(_NUMBER,),
                gives=Replayed,
                refuses=(*ADMISSION, UnknownLetter, LetterIncomplete, OutcomeUnknown),
                action="sync",
            ),
            Endpoint(
                method="DELETE",
                path=f"{LETTERS}/{{n}}",
                handler=self.drop,
                name="drop_dead_letter",
                parameters=(_NUMBER,),
                gives=Dropped,
                refuses=(*ADMISSION, UnknownLetter),
                action="sync",
            ),
        ]

    async def page(self, request: web.Request, asked: LettersAsked) -> DeadLetters:
        """The client's own open letters behind `after`, at most `limit`; which it is shown is logged."""
        client: Client = request[CLIENT]
        rows = await self._postgres.fetch(PAGE, client.id, asked.after, asked.limit + 1)
        shown = rows[: asked.limit]
        await note_reads(
            self._postgres, client.id, client.id, [_whose(row["n"], row["line"]) for row in shown], "dead letter"
        )
        letters = [_letter(row) for row in shown]
        return DeadLetters(letters, shown[-1]["n"] if len(rows) > asked.limit else None)

    async def replay(self, request: web.Request) -> Replayed:
        """Apply the line again, as if it came now. Safe to repeat: its id is applied once."""
        client: Client = request[CLIENT]
        row = await _one(self._postgres, _n(request), client.id)
        return await _replay(self._postgres, row, client, self._apply_lines)

    async def drop(self, request: web.Request) -> Dropped:
        """Give the line up. If it is sent and refused again it becomes a new letter."""
        rows = await self._postgres.fetch(CLOSE_ONE, _n(request), request[CLIENT].id)
        if not rows:
            raise UnknownLetter
        n, name, closed_at = rows[0]
        return Dropped(n, name, local(closed_at))

    async def run(self) -> None:
        """Count what is open every COUNT_EVERY seconds, until it is cancelled; goes on while PostgreSQL is away."""
        while True:
            await self.count()
            await asyncio.sleep(COUNT_EVERY)

    async def count(self) -> None:
        """Count once. The metrics stay as they were when PostgreSQL does not answer, or refuses."""
        try:
            (row,) = await self._postgres.fetch(OPEN)
        except (Unavailable, asyncpg.PostgresError) as error:
            log.debug("Cannot count the dead letters: %s", first_line(error))
            return
        metrics.DEAD_LETTERS.set(row["letters"])
        metrics.OLDEST_DEAD_LETTER.set(row["oldest"])


def _letter(row: Any) -> DeadLetter:
    n, name, line, error, detail, seen, *times = row
    return DeadLetter(n, name, line, error, detail, seen, *map(local, times))


def _n(request: web.Request) -> int:
    """The number in the path. Raises UnknownLetter for what is none."""
    text = request.match_info["n"]
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and int(text) <= _HIGHEST):
        raise UnknownLetter
    return int(text)
