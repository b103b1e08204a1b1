"""Holds: a legal one keeps a dossier from being removed, a restricted one from being told of.

They are the archivist's, outside the books: a hold changes nothing that was recorded.
"""

from collections.abc import Sequence
from typing import Any, Literal

from intake.refusals import UnknownDossier

Kind = Literal["legal", "restricted"]

IS_THERE = "SELECT NOT removed FROM dossier WHERE code = $1"
HOLD = """
INSERT INTO hold (code, kind, reason, by)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (code, kind) DO UPDATE
   SET reason = excluded.reason, by = excluded.by, at = now(), lifted_at = NULL
"""
LIFT = """
UPDATE hold
   SET lifted_at = now()
 WHERE code = $1
   AND kind = $2
   AND lifted_at IS NULL
"""
LIST = """
SELECT code, kind, reason, by, at
  FROM hold
 WHERE lifted_at IS NULL
 ORDER BY at, code, kind
"""


async def hold(archivist: Any, code: str, kind: Kind, *, reason: str, by: str) -> None:
    """Hold a dossier; if it is held so already, with this reason from now on. Raises UnknownDossier."""
    if not await archivist.fetchval(IS_THERE, code):
        raise UnknownDossier
    await archivist.execute(HOLD, code, kind, reason, by)


async def lift(archivist: Any, code: str, kind: Kind) -> bool:
    """End a hold; whether there was one. That there was stays in its row."""
    return str(await archivist.execute(LIFT, code, kind)) == "UPDATE 1"


async def holds(archivist: Any) -> Sequence[Any]:
    """Those in force: code, kind, reason, by, at; the oldest first."""
    found: Sequence[Any] = await archivist.fetch(LIST)
    return found
