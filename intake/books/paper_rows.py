"""Table `paper`: papers of intake/rules/papers.py with number, digest and stamp, written with their events.

The canonical form of a content is its JSON as PostgreSQL writes jsonb (seal.jsonb_text), in UTF-8: what column
`content` holds is what was hashed, byte by byte, and an auditor's view can compare it without showing it. The digest is
its SHA-256, and the event of the paper carries it under its seal.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from intake.books.event import APPEND_EVENT
from intake.books.seal import ROW_COLUMNS, jsonb_text
from intake.rules.papers import Content
from intake.rules.stamps import StampKey
from lookup import code as codes
from lookup.paper_stamp import DIGEST_BYTES, Stamp

COLUMNS: Final = (
    *("agency", "form", "year", "number", "code", "version", "form_version", "content", "digest", "stamp", "key_id"),
    *("issued_at", "issued_by"),
)

NEXT_NUMBER = """
INSERT INTO paper_sequence AS s (agency, form, year, last)
VALUES ($1, $2, $3, 1)
ON CONFLICT (agency, form, year) DO UPDATE
   SET last = s.last + 1
RETURNING last
"""

_FIRST = len(ROW_COLUMNS) + 1
APPEND_EVENT_WITH_PAPER = f"""
WITH appended AS ({APPEND_EVENT}),
     issued AS (
INSERT INTO paper ({", ".join(COLUMNS)})
VALUES ({", ".join(f"${n}" for n, _ in enumerate(COLUMNS, start=_FIRST))}))
SELECT xid, seq FROM appended
"""

NEWEST_RECEIPT = """
SELECT number, year
  FROM paper
 WHERE code = $1
   AND form = 'receipt'
 ORDER BY version DESC
 LIMIT 1
"""

PAPERS = """
SELECT agency, form, year, number, code, version, form_version, content::text AS content, digest, stamp, key_id,
       issued_at, issued_by, erased_at
  FROM paper
 WHERE code = $1
 ORDER BY version
"""
"""Those of one dossier, oldest first. `content` is canonical; null once it was erased."""


# $1 to $4: the paper. Its number of prints, those under way not counted.
PRINTED = """
SELECT count(*)
  FROM paper_print
 WHERE (agency, form, year, number) = ($1, $2, $3, $4)
"""
NOTE_PRINT = """
INSERT INTO paper_print (agency, form, year, number, by, kind)
VALUES ($1, $2, $3, $4, $5, $6)
"""


class PaperAltered(Exception):
    """A paper's stored content is not the one that was issued. The message names the paper, and nothing it says."""


def content_of(row: Mapping[str, Any]) -> Content | None:
    """What the paper in a row of PAPERS says; None once it was erased.

    Raises PaperAltered: nothing may be printed from it.
    """
    if row["content"] is None:
        return None
    if digest_of(row["content"]) != row["digest"]:
        raise PaperAltered(
            f"The content of {row['form']} {row['number']}/{row['year']} of {row['agency']} was altered."
        )
    return msgspec.json.decode(row["content"], type=Content)


def stamp_of(row: Mapping[str, Any], content: Content) -> Stamp:
    """The stamp of the paper in such a row."""
    times = content.received_at, content.due_at
    return Stamp(row["key_id"], row["form"], *times, row["digest"][:DIGEST_BYTES], row["stamp"])


def canonical(content: Content) -> str:
    """The content in its canonical form."""
    return jsonb_text(msgspec.json.decode(msgspec.json.encode(content)))


def digest_of(canonical_content: str) -> bytes:
    """The 32 bytes that stand for a content in its event and in its stamp."""
    return hashlib.sha256(canonical_content.encode()).digest()


def paper_row(content: Content, key: StampKey, issued_by: str) -> tuple[bytes, Mapping[str, Any]]:
    """The digest of a content, and the row of its paper: COLUMNS."""
    text = canonical(content)
    digest = digest_of(text)
    stamp = key.stamp(codes.parse(content.code), content.form, content.received_at, content.due_at, digest)
    return digest, {
        "agency": content.agency.code,
        "form": content.form,
        "year": content.year,
        "number": content.number,
        "code": content.code,
        "version": content.version,
        "form_version": content.form_version,
        "content": text,
        "digest": digest,
        "stamp": stamp.signature,
        "key_id": key.key_id,
        "issued_at": content.issued_at,
        "issued_by": issued_by,
    }
