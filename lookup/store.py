"""What the lookup reads from Postgres: one query per batch, and with every answer the moment it was true.

The reading role has grants by column; nothing here can name an applicant.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from lookup.clock import DatabaseClock, microseconds
from lookup.dossier import Record, Step
from ops.connections import Postgres

# now() is the time this statement's transaction began, before its snapshot was taken: whatever the
# statement sees was certainly true then. A standby knows only what has reached it, so there the heartbeat
# row, read in the same snapshot, says how far that is.
PRESENT = """
SELECT now()                                                            AS asked_at,
       CASE WHEN pg_is_in_recovery() THEN heartbeat.at ELSE now() END   AS as_of,
       (SELECT max(number)  FROM epoch)                                 AS epoch,
       (SELECT max(version) FROM schema_version)                        AS schema_version
  FROM heartbeat
"""

# LATERAL with LIMIT keeps the planner from ever hashing or scanning whole partitions, at any batch size.
DOSSIERS = f"""
WITH present AS MATERIALIZED ({PRESENT})
SELECT present.asked_at, present.as_of, present.epoch,
       found.*
  FROM present
  LEFT JOIN (SELECT d.*
               FROM unnest($1::text[]) AS wanted (code)
              CROSS JOIN LATERAL (SELECT code, version, status, service, agency,
                                         submitted_at, received_at, due_at, finished_at, returned_at,
                                         official_number, action_needed, timeline, key_serial, removed
                                    FROM dossier
                                   WHERE dossier.code = wanted.code
                                   LIMIT 1) AS d) AS found
    ON true
"""

NUMBERS = f"""
WITH present AS MATERIALIZED ({PRESENT})
SELECT present.asked_at, present.as_of, present.epoch,
       found.*
  FROM present
  LEFT JOIN (SELECT n.*
               FROM unnest($1::text[]) AS wanted (number)
              CROSS JOIN LATERAL (SELECT number, code, version
                                    FROM dossier_number
                                   WHERE dossier_number.number = wanted.number
                                   LIMIT 1) AS n) AS found
    ON true
"""

_steps = msgspec.json.Decoder(tuple[Step, ...])
_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of one batch: what was found, and since when that was certainly the truth."""

    as_of: int
    epoch: int
    found: dict[str, tuple[int, bytes]]
    """Asked for → (version, encoded body; empty for a removed dossier). What does not exist is absent."""


@dataclass(frozen=True, slots=True)
class Present:
    """What Postgres says of itself."""

    epoch: int
    schema_version: int


class Store:
    """Postgres as the lookup sees it. Every method raises Unavailable within the connection's deadline."""

    def __init__(self, postgres: Postgres, clock: DatabaseClock) -> None:
        self._postgres = postgres
        self._clock = clock

    async def dossiers(self, codes: Sequence[str]) -> Loaded:
        """The records with these codes."""
        return self._loaded(await self._ask(DOSSIERS, codes), lambda row: (row["code"], row["version"], encode(row)))

    async def numbers(self, numbers: Sequence[str]) -> Loaded:
        """The dossier codes these official numbers are bound to."""
        return self._loaded(
            await self._ask(NUMBERS, numbers),
            lambda row: (row["number"], row["version"], row["code"].encode()),
        )

    async def present(self) -> Present:
        """The current epoch and schema version; teaches the clock what time it is."""
        (row,) = await self._ask(PRESENT)
        return Present(row["epoch"], row["schema_version"] or 0)

    async def _ask(self, sql: str, *arguments: object) -> list[Any]:
        asked_at = time.monotonic()
        rows = await self._postgres.fetch(sql, *arguments)
        self._clock.learn(rows[0]["asked_at"], asked_at)
        return rows

    @staticmethod
    def _loaded(rows: list[Any], item: Any) -> Loaded:
        found = {}
        for row in rows:
            if row["code"] is not None:
                key, version, body = item(row)
                found[key] = (version, body)
        as_of: datetime = rows[0]["as_of"]
        return Loaded(microseconds(as_of), rows[0]["epoch"], found)


def encode(row: Any) -> bytes:
    """A dossier row as the bytes the cache holds; empty for a removed dossier, which has no content."""
    if row["removed"]:
        return b""
    return _encoder.encode(
        Record(
            code=row["code"],
            version=row["version"],
            status=row["status"],
            service=row["service"],
            agency=row["agency"],
            submitted_at=row["submitted_at"],
            received_at=row["received_at"],
            due_at=row["due_at"],
            finished_at=row["finished_at"],
            returned_at=row["returned_at"],
            official_number=row["official_number"],
            action_needed=row["action_needed"],
            timeline=_steps.decode(row["timeline"]),
            key_serial=row["key_serial"],
        )
    )
