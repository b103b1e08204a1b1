"""Which dossiers have been kept long enough, by their retention class: years from the end of the work.

A class is written `5y`, `20y`, `70y`. Dossiers of another class, or of none, are kept, and told apart in the report:
whoever wants them kept for good says so by another word. A dossier counts by its own class, else by its service's.
"""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from intake import operator
from intake.books.seal import SealKeys
from intake.refusals import DossierHeld
from lookup import code as codes

AT_A_TIME: Final = 500
REASON: Final = "Hết thời hạn lưu giữ."

# $1: the moment. The years of classes as they are written; null for every other word.
_KEPT = """
SELECT d.code, d.removed, class, years, d.service, d.finished_at,
       d.finished_at + make_interval(years => years) <= $1 AS expired,
       EXISTS (SELECT FROM hold AS h WHERE h.code = d.code AND h.kind = 'legal' AND h.lifted_at IS NULL) AS held
  FROM dossier AS d
  JOIN service AS s ON s.code = d.service,
LATERAL (SELECT coalesce(d.retention_class, s.retention_class) AS class) AS of_it,
LATERAL (SELECT substring(class FROM '^([1-9][0-9]{0,2})y$')::int AS years) AS of_class
 WHERE d.finished_at IS NOT NULL
"""
REPORT = f"""
SELECT class, service, count(*) AS kept, min(finished_at) AS oldest,
       count(*) FILTER (WHERE expired AND NOT held) AS expired,
       count(*) FILTER (WHERE expired AND held)     AS held,
       years IS NOT NULL AS understood
  FROM ({_KEPT}) AS kept
 WHERE NOT removed
 GROUP BY class, years, service
 ORDER BY class NULLS LAST, service
"""  # noqa: S608 - our own words
# Removed and not yet erased: a run that was interrupted in between.
EXPIRED = f"""
SELECT code
  FROM ({_KEPT}) AS kept
 WHERE expired
   AND NOT held
   AND (NOT removed OR EXISTS (SELECT FROM event AS e WHERE e.code = kept.code AND e.erased IS NULL))
   AND code > $2
 ORDER BY code
 LIMIT $3
"""  # noqa: S608 - our own words


class Class(NamedTuple):
    """A service's dossiers of one class that are finished and not removed."""

    retention_class: str | None
    service: str
    kept: int
    oldest: datetime
    expired: int
    """Kept long enough, and not held."""
    held: int
    """Kept long enough, and held."""
    understood: bool
    """Whether the class says for how many years; else its dossiers are kept."""


async def report(archivist: Any, at: datetime) -> Sequence[Class]:
    """What is kept, and what of it has been kept long enough at that moment."""
    return [Class(*row) for row in await archivist.fetch(REPORT, at)]


async def run(writer: Any, archivist: Any, seals: SealKeys, at: datetime, *, by: str, limit: int) -> AsyncIterator[str]:
    """Remove what has been kept long enough, at most `limit` dossiers; yields each one's code when it is erased.

    Each is removed by a sealed event and then erased; interrupted in between, the next run goes on with it. Raises what
    the connections raise.
    """
    after, left = "", limit
    while left > 0 and (found := await archivist.fetch(EXPIRED, at, after, min(left, AT_A_TIME))):
        for row in found:
            code = after = row["code"]
            try:
                await operator.remove(writer, archivist, seals, codes.parse(code), by=by, reason=REASON)
            except DossierHeld:  # since it was looked for
                continue
            yield code
        left -= len(found)
