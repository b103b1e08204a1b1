"""The verifier of the hash chain over each dossier's events (intake/books/event.py says how it is computed).

The hash chain detects tampering unless the attacker can also recompute every later hash of that dossier. Against such
an attacker, hashes have to be kept outside this database.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from intake.books.event import GENESIS, HASHED_COLUMNS, Event

PAGE = 5_000

# The dossier's version is read in the same statement as its events: a change between two statements is no finding.
EVENTS = f"""
SELECT {", ".join(f"e.{name}" for name in HASHED_COLUMNS)}, e.prev_hash, e.hash,
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
    """What happened to an event since it was written."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"


@dataclass(frozen=True, slots=True)
class TamperedEvent:
    """One event that is not as it was written, or is missing."""

    tampering: Tampering
    code: str
    version: int
    explanation: str

    def __str__(self) -> str:
        return f"{self.tampering.value}: event {self.version} of {self.code}: {self.explanation}"


async def verify(connection: Any, progress: Callable[[int], None] = lambda _: None) -> AsyncIterator[TamperedEvent]:
    """Read the whole log and yield each event that was altered, removed or inserted.

    Reads PAGE events at a time, without a long transaction, and may run beside live changes. Calls `progress` with the
    number of events checked so far. Raises what the connection raises.
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
                yield TamperedEvent(Tampering.REMOVED, dossier["code"], 1, "the dossier has no events")
        after = dossiers[-1]["code"]


class _Chain:
    """Checks each event against the one before it; takes events in the order of code and version."""

    def __init__(self) -> None:
        self._last: Any = None

    def follow(self, event: Any) -> list[TamperedEvent]:
        findings: list[TamperedEvent] = []
        last = self._last
        if last is None or last["code"] != event["code"]:
            findings += self.end()
            expected, prev_hash = 1, GENESIS
        else:
            expected, prev_hash = last["version"] + 1, last["hash"]
        gap = event["version"] != expected
        for version in range(expected, event["version"]):
            findings.append(TamperedEvent(Tampering.REMOVED, event["code"], version, "it is missing from the log"))
        written = Event(**{name: event[name] for name in HASHED_COLUMNS})
        if written.hash_after(event["prev_hash"]) != event["hash"]:
            findings.append(
                TamperedEvent(Tampering.ALTERED, event["code"], event["version"], "its content does not match its hash")
            )
        elif not gap and event["prev_hash"] != prev_hash:
            findings.append(
                TamperedEvent(
                    Tampering.INSERTED,
                    event["code"],
                    event["version"],
                    "it does not follow the event before it: one of the two was inserted or exchanged",
                )
            )
        self._last = event
        return findings

    def end(self) -> list[TamperedEvent]:
        """The findings at the end of the last dossier's chain: its events against the version in its row."""
        last, self._last = self._last, None
        if last is None or last["dossier_version"] == last["version"]:
            return []
        code, version, stands_at = last["code"], last["version"], last["dossier_version"]
        if stands_at is None:
            return [TamperedEvent(Tampering.INSERTED, code, version, "there is no such dossier")]
        if stands_at < version:
            return [
                TamperedEvent(Tampering.INSERTED, code, extra, f"the dossier is at version {stands_at}")
                for extra in range(stands_at + 1, version + 1)
            ]
        return [
            TamperedEvent(Tampering.REMOVED, code, missing, "it is missing from the end of the log")
            for missing in range(version + 1, stands_at + 1)
        ]
