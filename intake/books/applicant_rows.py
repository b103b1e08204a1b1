"""Table `applicant_search`: what a desk finds applicants by, written in the transactions of their dossiers.

It follows no event: names are not in the log. Erasing a removed dossier deletes its row.
"""

from collections.abc import Iterable
from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from intake.books.dossier import DOSSIER_COLUMNS, INSERT_DOSSIER
from intake.rules.folding import folded, tail

COLUMNS: Final = ("code", "agency", "submitted_at", "folded", "id_tail", "phone_tail")
Row = tuple[str, str, datetime, str, str | None, str | None]

_FIRST: Final = len(DOSSIER_COLUMNS) + 1
INSERT_WITH_APPLICANT = f"""
WITH searched AS (
INSERT INTO applicant_search ({", ".join(COLUMNS)})
VALUES ({", ".join(f"${n}" for n, _ in enumerate(COLUMNS, start=_FIRST))})
)
{INSERT_DOSSIER}
"""

RENEW = f"""
INSERT INTO applicant_search ({", ".join(COLUMNS)})
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (code) DO UPDATE
   SET folded = excluded.folded, id_tail = excluded.id_tail, phone_tail = excluded.phone_tail
"""

_of = itemgetter(
    *(
        DOSSIER_COLUMNS.index(name)
        for name in ("code", "origin", "submitted_at", "applicant_name", "applicant_id", "applicant_phone")
    )
)


def search_row(dossier: tuple[Any, ...]) -> Row:
    """The row for a new dossier, of which the values of DOSSIER_COLUMNS are given."""
    code, origin, submitted_at, name, number, phone = _of(dossier)
    return code, origin, submitted_at, folded(name), tail(number), tail(phone)


async def copy(connection: Any, dossiers: Iterable[tuple[Any, ...]]) -> None:
    """Write the rows of many new dossiers, in the transaction that copies them."""
    await connection.copy_records_to_table(
        "applicant_search", columns=COLUMNS, records=[search_row(each) for each in dossiers]
    )


async def renew(connection: Any, code: str, origin: str, submitted_at: datetime, person: Any) -> None:
    """Find the dossier by this applicant from now on. `person`: a row with columns applicant_name, _id and _phone."""
    found = folded(person["applicant_name"]), tail(person["applicant_id"]), tail(person["applicant_phone"])
    await connection.execute(RENEW, code, origin, submitted_at, *found)
