"""The officers' list: a CSV file that says who may sign in, for which agency, in which roles."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from rich.table import Table

from intake.desk.officers import CLIENT, ROLES, Officer
from intake.rules.texts import UnclearText, clean
from lookup.catalogue import Catalogue

COLUMNS: Final = ("issuer", "subject", "name", "agency", "roles")
_LONGEST: Final = {"issuer": 500, "subject": 255, "name": 200, "agency": 64}
_MOST_SHOWN: Final = 20

# $1: the officers as JSON. Those of the same issuers that are not among them are disabled, and their sessions end.
LOAD = """
WITH listed AS (
    SELECT *
      FROM jsonb_to_recordset($1::jsonb) AS told (issuer text, subject text, name text, agency text, roles text[])
),
     gone AS (
    UPDATE officer AS o
       SET disabled_at = now()
     WHERE o.disabled_at IS NULL
       AND o.issuer IN (SELECT issuer FROM listed)
       AND NOT EXISTS (SELECT FROM listed AS l WHERE (l.issuer, l.subject) = (o.issuer, o.subject))
    RETURNING subject
),
     written AS (
    INSERT INTO officer AS o (issuer, subject, name, agency, roles)
    SELECT issuer, subject, name, agency, roles
      FROM listed
        ON CONFLICT (issuer, subject) DO UPDATE
       SET name = excluded.name, agency = excluded.agency, roles = excluded.roles, disabled_at = NULL
     WHERE (o.name, o.agency, o.roles) IS DISTINCT FROM (excluded.name, excluded.agency, excluded.roles)
        OR o.disabled_at IS NOT NULL
    RETURNING xmax = 0 AS added
)
SELECT (SELECT count(*) FROM written WHERE added)     AS added,
       (SELECT count(*) FROM written WHERE NOT added) AS changed,
       (SELECT count(*) FROM gone)                    AS disabled
"""

# In whose name desks write. It gets no token.
ADD_CLIENT = """
INSERT INTO client (id, name, agency, actions)
SELECT $1, 'Bộ phận Một cửa', min(code), '{read}'
  FROM agency
 WHERE parent IS NULL
   AND NOT sandbox
    ON CONFLICT DO NOTHING
"""

LIST = """
SELECT issuer, subject, name, agency, roles, disabled_at
  FROM officer
 ORDER BY agency, name, issuer, subject
"""


class ListRefused(Exception):
    """The list cannot be loaded; a line of the message for each line that is wrong."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many officers are new, otherwise than before, and disabled because the list has them no longer."""

    added: int
    changed: int
    disabled: int


def read(content: bytes, catalogue: Catalogue) -> list[Officer]:
    """The officers of a file: CSV in UTF-8, separated by commas or semicolons, with a head of COLUMNS in any order.

    Roles are separated by blanks or `|`. Raises ListRefused, which names every wrong line by its number.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ListRefused("The file is not in UTF-8; save it as CSV in UTF-8.") from None
    head = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in head else ",", strict=True)
    officers: list[Officer] = []
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    try:
        if sorted(name.strip() for name in rows.fieldnames or ()) != sorted(COLUMNS):
            raise ListRefused(f"The first line has to name the columns: {','.join(COLUMNS)}.")
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        for row in rows:
            try:
                officer = _officer(row, catalogue)
                before = seen.setdefault((officer.issuer, officer.subject), rows.line_num)
                if before != rows.line_num:
                    raise ValueError(f"{officer.subject} of {officer.issuer} is in line {before} already")
                officers.append(officer)
            except ValueError as fault:
                faults.append(f"line {rows.line_num}: {fault}")
    except csv.Error as error:
        faults.append(f"line {rows.line_num}: {error}")
    if not faults and not officers:
        faults.append("The file names no officer; it would disable all, so it is not loaded.")
    if faults:
        more = len(faults) - _MOST_SHOWN
        raise ListRefused("\n".join(faults[:_MOST_SHOWN] + ([f"and {more} lines more"] if more > 0 else [])))
    return officers


def _officer(row: dict[str | None, Any], catalogue: Catalogue) -> Officer:
    """Raises ValueError for what is no officer."""
    if None in row or None in row.values():
        raise ValueError(f"it has to have {len(COLUMNS)} fields")
    said = {}
    for name, longest in _LONGEST.items():
        try:
            said[name] = clean(row[name], longest)
        except UnclearText as unclear:
            raise ValueError(f"{name}: {unclear}") from None
    if any("|" in said[name] for name in ("issuer", "subject")):
        raise ValueError("issuer and subject cannot contain |")
    if said["agency"] not in catalogue.agencies or catalogue.is_sandbox(said["agency"]):
        raise ValueError(f"agency: there is no agency {said['agency']}")
    roles = frozenset(row["roles"].replace("|", " ").split())
    if not roles or roles - ROLES.keys():
        raise ValueError(f"roles: expected some of {', '.join(ROLES)}")
    return Officer(**said, roles=roles)


async def load(connection: Any, officers: Sequence[Officer]) -> Loaded:
    """Make the officers' table say this, as the owner, in one transaction; and the client of all desks."""
    listed = [
        {"issuer": o.issuer, "subject": o.subject, "name": o.name, "agency": o.agency, "roles": sorted(o.roles)}
        for o in officers
    ]
    async with connection.transaction():
        await connection.execute(ADD_CLIENT, CLIENT)
        return Loaded(*(await connection.fetchrow(LOAD, msgspec.json.encode(listed).decode())).values())


async def officers(connection: Any) -> Sequence[Any]:
    """Those that are known, also disabled ones."""
    found: Sequence[Any] = await connection.fetch(LIST)
    return found


def table(rows: Iterable[Any]) -> Table:
    """Officers for people to look at."""
    shown = Table("agency", "name", "roles", "subject", "issuer", "disabled", box=None, pad_edge=False)
    for row in rows:
        disabled = f"{row['disabled_at']:%Y-%m-%d}" if row["disabled_at"] else ""
        shown.add_row(row["agency"], row["name"], " ".join(row["roles"]), row["subject"], row["issuer"], disabled)
    return shown
