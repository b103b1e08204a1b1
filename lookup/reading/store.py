"""What the lookup reads from PostgreSQL: one query per batch, each answer with the moment it was current.

The role hoso24_reader has grants by column and cannot read an applicant's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lookup.clock import PRESENT, Micros, microseconds
from lookup.dossier import COLUMNS, pack_row
from lookup.reading.hosts import Hosts

# The first row holds PRESENT's columns for Hosts.ask, the others the records: one statement, so one snapshot.
# LATERAL with LIMIT keeps the planner from hashing or scanning whole partitions, at any batch size.
DOSSIERS = f"""
WITH present AS MATERIALIZED ({PRESENT})
SELECT asked_at, beat_at, as_of, standby, horizon, epoch,
       {", ".join(f"NULL::{sql_type} AS {name}" for name, sql_type in COLUMNS.items())}
  FROM present
 UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL,
       d.*
  FROM unnest($1::text[]) AS wanted (code)
 CROSS JOIN LATERAL (SELECT {", ".join(COLUMNS)}
                       FROM dossier
                      WHERE dossier.code = wanted.code
                      LIMIT 1) AS d
"""

NUMBERS = f"""
WITH present AS MATERIALIZED ({PRESENT})
SELECT asked_at, beat_at, as_of, standby, horizon, epoch,
       NULL::text AS number, NULL::text AS code, NULL::int4 AS version
  FROM present
 UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL,
       n.*
  FROM unnest($1::text[]) AS wanted (number)
 CROSS JOIN LATERAL (SELECT number, code, version
                       FROM dossier_number
                      WHERE dossier_number.number = wanted.number
                      LIMIT 1) AS n
"""

_FIRST_COLUMN = 6
"""Index of the dossier's first column in a row of DOSSIERS."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The result of one batch: the records found, and the moment they were current."""

    as_of: Micros
    epoch: int
    found: dict[str, tuple[int, bytes]]
    """Requested name → (version, packed body; empty for a removed dossier). A missing dossier is absent."""
    horizon: int
    """The snapshot's xmin: every transaction below it had ended."""
    standby: bool
    """Whether a standby answered: an absent dossier may not have been replicated yet."""


class Store:
    """The lookup's queries. Every method raises Unavailable within the connection's deadline.

    With `primary` only the primary is queried.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts

    async def dossiers(self, codes: Sequence[str], *, primary: bool = False) -> Loaded:
        """The records with these codes."""
        present, *rows = await self._hosts.ask(DOSSIERS, codes, primary=primary)
        return _loaded(present, {row["code"]: (row["version"], packed(row)) for row in rows})

    async def numbers(self, numbers: Sequence[str], *, primary: bool = False) -> Loaded:
        """The dossier codes these official numbers are bound to."""
        present, *rows = await self._hosts.ask(NUMBERS, numbers, primary=primary)
        return _loaded(present, {row["number"]: (row["version"], row["code"].encode()) for row in rows})


def _loaded(present: Any, found: dict[str, tuple[int, bytes]]) -> Loaded:
    return Loaded(
        microseconds(present["as_of"]), present["epoch"], found, present["horizon"], standby=present["standby"]
    )


def packed(row: Any) -> bytes:
    """A row of DOSSIERS after the first as the bytes the caches hold; empty for a removed dossier."""
    return pack_row(row[_FIRST_COLUMN:])
