"""What the lookup reads from Postgres: one query per batch, and with every answer the moment it was true.

The reading role has grants by column; nothing here can name an applicant.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lookup import dossier
from lookup.clock import microseconds
from lookup.dossier import Record
from lookup.hosts import PRESENT, Hosts

# LATERAL with LIMIT keeps the planner from ever hashing or scanning whole partitions, at any batch size.
DOSSIERS = f"""
WITH present AS MATERIALIZED ({PRESENT})
SELECT present.asked_at, present.beat_at, present.as_of, present.standby, present.horizon, present.epoch,
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
SELECT present.asked_at, present.beat_at, present.as_of, present.standby, present.horizon, present.epoch,
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


@dataclass(frozen=True, slots=True)
class Loaded:
    """The outcome of one batch: what was found, and since when that was certainly the truth."""

    as_of: int
    epoch: int
    found: dict[str, tuple[int, bytes]]
    """Asked for → (version, encoded body; empty for a removed dossier). What does not exist is absent."""
    horizon: int = 0
    """The snapshot's xmin: every transaction below it had ended."""
    standby: bool = False
    """Whether it was a standby that answered: there, what is absent may only not have arrived yet."""


class Store:
    """Postgres as the lookup sees it. Every method raises Unavailable within the connection's deadline.

    With `primary` only the primary is asked.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def dossiers(self, codes: Sequence[str], *, primary: bool = False) -> Loaded:
        """The records with these codes."""
        rows = await self._hosts.ask(DOSSIERS, codes, primary=primary)
        return _loaded(rows, lambda row: (row["code"], row["version"], encode(row)))

    async def numbers(self, numbers: Sequence[str], *, primary: bool = False) -> Loaded:
        """The dossier codes these official numbers are bound to."""
        rows = await self._hosts.ask(NUMBERS, numbers, primary=primary)
        return _loaded(rows, lambda row: (row["number"], row["version"], row["code"].encode()))


def _loaded(rows: list[Any], item: Callable[[Any], tuple[str, int, bytes]]) -> Loaded:
    found = {}
    for row in rows:
        if row["code"] is not None:
            key, version, body = item(row)
            found[key] = (version, body)
    first = rows[0]
    return Loaded(microseconds(first["as_of"]), first["epoch"], found, first["horizon"], first["standby"])


def encode(row: Any) -> bytes:
    """A dossier row as the bytes the cache holds; empty for a removed dossier, which has no content."""
    if row["removed"]:
        return b""
    return dossier.pack(
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
            timeline=dossier.steps(row["timeline"]),
            key_serial=row["key_serial"],
        )
    )
