"""The log of reads of personal data: a row is committed before the answer leaves.

Only the auditor's role reads it (`hoso24 audit reads`); the writer's may append to it and cannot look at it.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

import asyncpg

from ops.errors import Unavailable
from ops.stores.postgres import POSTGRES_AWAY

NOTE_READ = """
INSERT INTO personal_read (reader, client, code, screen)
VALUES ($1, $2, $3, $4)
"""


NOTE_READS = """
INSERT INTO personal_read (reader, client, code, screen)
SELECT $1, $2, code, $4
  FROM unnest($3::text[]) AS code
"""


async def note_read(postgres: Any, reader: str, client: str, code: str, screen: str) -> None:
    """Record that this reader is shown this dossier's personal data; call it before the data are read or sent.

    `postgres` is the pool, or a connection; on a connection inside a transaction the row counts from the commit on.
    `reader` is the officer whom the client names, else the client's id, cleaned and bounded by the caller; `client` is
    the client's id, `screen` names what is shown ("dossier", "key").

    Raises Unavailable whenever the row cannot be written, whatever the reason: then nothing may be shown.
    """
    await _note(postgres, NOTE_READ, reader, client, code, screen)


async def note_reads(postgres: Any, reader: str, client: str, codes: Sequence[str], screen: str) -> None:
    """The same of several dossiers, in one statement; none for none. Raises Unavailable."""
    if codes:
        await _note(postgres, NOTE_READS, reader, client, codes, screen)


async def _note(postgres: Any, statement: str, *values: Any) -> None:
    try:
        await postgres.fetch(statement, *values)
    except (asyncpg.PostgresError, *POSTGRES_AWAY) as error:
        raise Unavailable("The log of reads cannot be written now.", reason=f"log of reads: {error}") from error


READS = """
SELECT at, reader, client, code, screen
  FROM personal_read
 WHERE at >= $1
   AND at < $2
   AND ($3::text IS NULL OR code = $3)
 ORDER BY at
"""


async def reads_between(connection: Any, start: datetime, end: datetime, code: str | None) -> AsyncIterator[Any]:
    """The rows from `start` to before `end`, oldest first, of one dossier or of all; for the auditor's role.

    A row has at, reader, client, code and screen. They are streamed, in one snapshot. Raises what the connection does.
    """
    async with connection.transaction(readonly=True):
        async for row in connection.cursor(READS, start, end, code, prefetch=1_000):
            yield row
