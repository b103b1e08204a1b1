"""The hash chain over each dossier's events, and its verifier.

`hash = SHA-256(previous hash of this dossier, canonical event)`; the first event follows 32 zero bytes. The
chain shows tampering by whoever can write to the tables but does not recompute the rest of the chain;
against somebody who does, hashes have to be kept elsewhere too.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

GENESIS = bytes(32)
PAGE = 5_000

# The dossier's version is read in the same statement as its events, so live changes are no faults.
EVENTS = """
SELECT e.code, e.version, e.kind, e.status, e.occurred_at, e.recorded_at, e.agency, e.department, e.actor,
       e.source, e.source_event_id, e.bulk, e.note, e.official_number, e.prev_hash, e.hash,
       (SELECT d.version FROM dossier d WHERE d.code = e.code) AS dossier_version
  FROM event e
 WHERE (e.code, e.version) > ($1, $2)
 ORDER BY e.code, e.version
 LIMIT $3
"""

WITHOUT_FIRST_EVENT = """
SELECT page.code, page.version,
       EXISTS (SELECT FROM event e WHERE e.code = page.code) AS has_events
  FROM (SELECT code, version FROM dossier WHERE code > $1 ORDER BY code LIMIT $2) AS page
 ORDER BY page.code
"""


class Tampering(Enum):
    """What was done to the log."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"


@dataclass(frozen=True, slots=True)
class Finding:
    """One event that is not as it was written."""

    tampering: Tampering
    code: str
    version: int
    explanation: str

    def __str__(self) -> str:
        return f"{self.tampering.value}: event {self.version} of {self.code}: {self.explanation}"


_encode = msgspec.json.Encoder().encode


def chain_hash(
    prev_hash: bytes,
    *,
    code: str,
    version: int,
    kind: str,
    status: int,
    occurred_at: datetime,
    recorded_at: datetime,
    agency: str,
    department: str | None,
    actor: str,
    source: str,
    source_event_id: str | None,
    bulk: bool,
    note: str | None,
    official_number: str | None,
) -> bytes:
    """The hash of an event that follows `prev_hash`. Times count to the microsecond, in UTC."""
    canonical = _encode(
        (
            "event-1",
            code,
            version,
            kind,
            status,
            occurred_at.astimezone(UTC),
            recorded_at.astimezone(UTC),
            agency,
            department,
            actor,
            source,
            source_event_id,
            bulk,
            note,
            official_number,
        )
    )
    return hashlib.sha256(prev_hash + canonical).digest()


async def verify(connection: Any, progress: Callable[[int], None] = lambda _: None) -> AsyncIterator[Finding]:
    """Walk the whole log and yield each event that was altered, removed or inserted.

    Reads in pages, so it holds no long transaction and runs beside live changes. `progress` is told how many
    events have been checked.
    """
    chain = _Chain()
    checked = 0
    cursor: tuple[str, int] = ("", 0)
    while page := await connection.fetch(EVENTS, *cursor, PAGE):
        for event in page:
            for finding in chain.follow(event):
                yield finding
        checked += len(page)
        progress(checked)
        cursor = (page[-1]["code"], page[-1]["version"])
    for finding in chain.end():
        yield finding
    after = ""
    while dossiers := await connection.fetch(WITHOUT_FIRST_EVENT, after, PAGE):
        for dossier in dossiers:
            if not dossier["has_events"]:
                yield Finding(Tampering.REMOVED, dossier["code"], 1, "the dossier has no event at all")
        after = dossiers[-1]["code"]


class _Chain:
    """Follows events in order of code and version, one dossier after the other."""

    def __init__(self) -> None:
        self._last: Any = None

    def follow(self, event: Any) -> list[Finding]:
        findings: list[Finding] = []
        last = self._last
        if last is None or last["code"] != event["code"]:
            findings += self.end()
            expected, prev_hash = 1, GENESIS
        else:
            expected, prev_hash = last["version"] + 1, last["hash"]
        gap = event["version"] != expected
        for version in range(expected, event["version"]):
            findings.append(Finding(Tampering.REMOVED, event["code"], version, "it is missing from the log"))
        content = {name: value for name, value in event.items() if name not in ("prev_hash", "hash", "dossier_version")}
        if chain_hash(event["prev_hash"], **content) != event["hash"]:
            findings.append(
                Finding(Tampering.ALTERED, event["code"], event["version"], "its content does not match its hash")
            )
        elif not gap and event["prev_hash"] != prev_hash:
            findings.append(
                Finding(
                    Tampering.INSERTED,
                    event["code"],
                    event["version"],
                    "it does not follow the event before it: one of the two was put in or exchanged",
                )
            )
        self._last = event
        return findings

    def end(self) -> list[Finding]:
        """What the last dossier's own row says about the end of its chain."""
        last, self._last = self._last, None
        if last is None or last["dossier_version"] == last["version"]:
            return []
        code, version, stands_at = last["code"], last["version"], last["dossier_version"]
        if stands_at is None:
            return [Finding(Tampering.INSERTED, code, version, "there is no such dossier")]
        if stands_at < version:
            return [
                Finding(Tampering.INSERTED, code, extra, f"the dossier stands at version {stands_at}")
                for extra in range(stands_at + 1, version + 1)
            ]
        return [
            Finding(Tampering.REMOVED, code, missing, "it is missing from the end of the log")
            for missing in range(version + 1, stands_at + 1)
        ]
