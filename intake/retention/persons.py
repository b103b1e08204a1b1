"""`hoso24 person export`: everything that is known of one person, for that person (Law 91/2025 on personal data).

A person is found by their number, exactly as an application gave it, spaces, dots and dashes aside. What is found are
dossiers with the applicant's data, their events with officers' notes, papers, consents, notices, and who read them.

Of persons who act for the applicant only what stands in the applicant's own papers is told, which they hold already.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from intake.books.ledger import OPERATOR
from intake.books.reads import note_reads
from lookup.clock import VIETNAM

_SEPARATORS: Final = re.compile(r"[\s.\-]+")

# There is no index by number: nobody looks for persons, and this reads every dossier once.
DOSSIERS = """
SELECT code, version, status, service, agency, origin, channel, submitted_at, received_at, due_at, finished_at,
       returned_at, outcome, reason, action_needed, official_number, subject, applicant_kind, applicant_name,
       applicant_id, applicant_phone, applicant_email, applicant_address
  FROM dossier
 WHERE regexp_replace(applicant_id, '[\\s.\\-]+', '', 'g') = $1
 ORDER BY submitted_at, code
"""
EVENTS = """
SELECT code, version, kind, occurred_at, recorded_at, source, status, agency, due_at, note, detail, actor, department
  FROM event
 WHERE code = ANY ($1)
 ORDER BY code, version
"""
PAPERS = """
SELECT code, agency, form, year, number, issued_at, content::text AS content
  FROM paper
 WHERE code = ANY ($1)
 ORDER BY code, issued_at
"""
CONSENTS = """
SELECT code, channel, address, given_at, given_by, withdrawn_at
  FROM consent
 WHERE code = ANY ($1)
 ORDER BY code, channel
"""
NOTICES = """
SELECT code, version, channel, kind, state, made_at, ended_at
  FROM notice
 WHERE code = ANY ($1)
 ORDER BY code, version, channel
"""
READS = """
SELECT code, at, reader, client, screen
  FROM personal_read
 WHERE code = ANY ($1)
 ORDER BY code, at
"""

PARTS: Final = ("events", "papers", "consents", "notices", "reads")
"""What is told of a dossier besides its row."""


def plain(number: str) -> str:
    """A number as it is compared: without spaces, dots and dashes. Raises ValueError for one of fewer than six signs.

    A shorter one would be a part of a number, and find others.
    """
    found = _SEPARATORS.sub("", number)
    if len(found) < 6:
        raise ValueError("a person's number has six signs or more")
    return found


async def export(writer: Any, archivist: Any, auditor: Any, number: str, *, by: str) -> list[dict[str, Any]]:
    """A person's dossiers, oldest first, each with PARTS; read with three roles, since none may read all of it.

    Each dossier is noted in the log of reads before it is told. Raises ValueError as `plain`, Unavailable when the log
    of reads cannot be written, and what the connections raise.
    """
    rows = await writer.fetch(DOSSIERS, plain(number))
    codes = [row["code"] for row in rows]
    await note_reads(writer, by, OPERATOR, codes, "person")
    asked = {
        "events": (writer, EVENTS),
        "papers": (writer, PAPERS),
        "consents": (writer, CONSENTS),
        "notices": (archivist, NOTICES),
        "reads": (auditor, READS),
    }
    parts: dict[str, dict[str, list[Any]]] = {}
    for name, (connection, sql) in asked.items():
        for found in await connection.fetch(sql, codes):
            parts.setdefault(found["code"], {}).setdefault(name, []).append(_told(found))
    told = []
    for row in rows:
        of_it = parts.get(row["code"], {})
        told.append({"code": row["code"]} | _told(row) | {name: of_it.get(name, []) for name in PARTS})
    return told


def _told(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row says: its code aside, and what is null."""
    told = {name: value for name, value in row.items() if value is not None and name != "code"}
    for name in told.keys() & {"content", "detail"}:
        told[name] = msgspec.json.decode(told[name])
    return {name: _local(value) for name, value in told.items()}


def _local(value: Any) -> Any:
    return value.astimezone(VIETNAM) if isinstance(value, datetime) else value


def as_json(dossiers: Sequence[Mapping[str, Any]]) -> bytes:
    """For programs."""
    return msgspec.json.format(msgspec.json.encode(dossiers), indent=2) + b"\n"


def as_text(dossiers: Sequence[Mapping[str, Any]]) -> str:
    """To be read and printed."""
    return "\n".join(line for each in dossiers for line in _lines(each)) + "\n"


def _lines(dossier: Mapping[str, Any]) -> Iterator[str]:
    yield f"== {dossier['code']} =="
    yield from (f"{name}: {_said(value)}" for name, value in dossier.items() if name not in {"code", *PARTS})
    for part in PARTS:
        yield f"-- {part}: {len(dossier[part])}"
        for row in dossier[part]:
            yield "   " + "; ".join(f"{name}: {_said(value)}" for name, value in row.items())
    yield ""


def _said(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return msgspec.json.encode(value).decode() if isinstance(value, dict | list) else str(value)
