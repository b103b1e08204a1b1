"""A database of dossiers and events that stands in for PostgreSQL: ledger, verifier and imports without servers.

It does what their statements say, at a time that stands still. A transaction that fails leaves nothing.
"""

import contextlib
import copy
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Any

import asyncpg
import msgspec

from intake.books import applicant_rows, ledger, reads, sequences, task_rows
from intake.books.dossier import DOSSIER_COLUMNS
from intake.books.event import APPEND_EVENT
from intake.books.fold import folded
from intake.books.seal import PERSON_COLUMNS, ROW_COLUMNS
from intake.bulk import known, loader
from lookup import catalogue as catalogues
from lookup.catalogue import Catalogue, load

NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)
AGENCIES, SERVICES = load.sample()
SAMPLE = Catalogue({agency.code: agency for agency in AGENCIES}, {service.code: service for service in SERVICES})
STEPS = {"received", "moved"}
ABSENT: dict[str, Any] = dict.fromkeys(("official_number", "owner", "source_seq")) | {
    "removed": False,
    "key_serial": 0,
    "reappointments": 0,
}


class Broken(asyncpg.UniqueViolationError):  # type: ignore[misc]
    """A constraint of this name was broken."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.constraint_name = name


class Books:
    """Tables as lists and dictionaries, and every statement that was sent."""

    def __init__(self) -> None:
        named = ("dossier", "number", "answer", "run", "day", "task")
        self.tables: dict[str, Any] = {**{name: {} for name in named}, "event": []}
        self.asked: list[tuple[Any, ...]] = []
        self.locked = False
        """Whether the same request is under way elsewhere."""
        self.refuses: list[Exception] = []
        """What the next changed rows end with."""
        self.longest: list[float] = []
        """For how long each transaction may be open, in seconds."""

    @property
    def dossiers(self) -> dict[str, dict[str, Any]]:
        dossiers: dict[str, dict[str, Any]] = self.tables["dossier"]
        return dossiers

    @property
    def events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = self.tables["event"]
        return events

    # -- as a pool and as a connection

    @contextlib.asynccontextmanager
    async def connection(self, seconds: float, **_: str) -> AsyncIterator["Books"]:
        self.longest.append(seconds)
        yield self

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        before = copy.deepcopy(self.tables)
        try:
            yield
        except BaseException:
            self.tables = before
            raise

    async def fetch(self, sql: str, *given: Any) -> list[Any]:
        self.asked.append((sql, *given))
        match sql:
            case catalogues.CATALOGUE:
                there = {"agencies": AGENCIES, "services": SERVICES, "calendars": [], "loaded": None}
                return [{"catalogue": msgspec.json.encode(there)}]
            case known.KNOWN:
                return [self.dossiers[code] for code in given[0] if code in self.dossiers]
            case known.STEPS:
                steps = [event for event in self.events if event["code"] in given[0] and event["kind"] in STEPS]
                return [event | {"untimed": given[1] in (event["flags"] or ())} for event in steps]
            case known.NUMBERS:
                return [{"number": number} for number in self.tables["number"] if number in given[0]]
            case ledger.OFFICERS_VIEW:
                return [self.dossiers[given[0]] | {"tasks": None}] if given[0] in self.dossiers else []
            case reads.NOTE_READ:
                return []
        raise AssertionError(sql)

    async def fetchrow(self, sql: str, *given: Any) -> Any:
        self.asked.append((sql, *given))
        match sql:
            case ledger.TRY_LOCK:
                return {"locked": not self.locked, "now": NOW, "epoch": 3}
            case ledger.FIND_ANSWER:
                return self.tables["answer"].get(given)
            case ledger.MOMENT:
                return {"now": NOW, "epoch": 3}
            case ledger.LOCK_DOSSIER:
                return self._locked(given[0])
            case loader.START:
                return {"now": NOW, "epoch": 3}
            case loader.FIND_RUN:
                run = self.tables["run"].get(given[0])
                return None if run is None or run["finished"] else run
        assert sql == APPEND_EVENT
        event = dict(zip(ROW_COLUMNS, given, strict=True)) | {"erased": None}
        if event["version"] > 1 and self.refuses:
            raise self.refuses.pop(0)
        self.events.append(event)
        self._follow(event)
        return {"xid": 7, "seq": len(self.events)}

    def _locked(self, code: str) -> dict[str, Any] | None:
        if code not in self.dossiers:
            return None
        steps = [event["occurred_at"] for event in self._of(code) if event["kind"] in STEPS]
        newest = {"newest": self.dossiers[code]["version"], "last_at": steps[-1] if steps else None}
        tasks = [task for (of, _), task in sorted(self.tables["task"].items()) if of == code]
        told = {"tasks": msgspec.json.encode(tasks).decode() if tasks else None}
        return self.dossiers[code] | newest | told | {"timeline_bytes": len(self.dossiers[code]["timeline"])}

    def _of(self, code: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["code"] == code]

    def _follow(self, event: dict[str, Any]) -> None:
        """What the trigger does."""
        if event["version"] == 1:
            return
        code, number = event["code"], event["official_number"]
        row = folded(self._of(code))
        self.dossiers[code] |= row | {"timeline": msgspec.json.encode(row["timeline"]).decode()}
        if number is not None:
            if number in self.tables["number"]:
                raise Broken("dossier_number_pkey")
            self.tables["number"][number] = [code, event["version"]]

    async def fetchval(self, sql: str, *given: Any) -> Any:
        self.asked.append((sql, *given))
        match sql:
            case ledger.NEXT_IN_SEQUENCE:
                agency_and_day: tuple[str, date] = given
                self.tables["day"][agency_and_day] = self.tables["day"].get(agency_and_day, 0) + 1
                return self.tables["day"][agency_and_day]
            case ledger.IS_TAKEN:
                return given[0] in self.dossiers or given[0] in self.tables["number"]
        raise AssertionError(sql)

    async def execute(self, sql: str, *given: Any) -> None:
        self.asked.append((sql, *given))
        if sql == applicant_rows.INSERT_WITH_APPLICANT and self.refuses:
            raise self.refuses.pop(0)
        match sql:
            case applicant_rows.INSERT_WITH_APPLICANT:
                self._insert("dossier", DOSSIER_COLUMNS, [given[: len(DOSSIER_COLUMNS)]])
            case ledger.KEEP_ANSWER:
                self.tables["answer"][given[:2]] = {"fingerprint": given[2], "answer": given[3]}
            case task_rows.WRITE:
                for task in msgspec.json.decode(given[0]):
                    self.tables["task"][task["code"], task["number"]] = task
            case ledger.CORRECT_APPLICANT:
                self.dossiers[given[0]] |= dict(zip(PERSON_COLUMNS, given[1:], strict=True))
            case applicant_rows.RENEW:
                pass
            case sequences.RAISE_SEQUENCES:
                for agency, day, last in zip(*given, strict=True):
                    self.tables["day"][agency, day] = max(last, self.tables["day"].get((agency, day), 0))
            case _:
                assert sql == loader.SAVE_RUN
                names = (
                    *("position", "line", "taken", "appended", "already_here", "rejected", "reasons"),
                    *("reject_bytes", "key_bytes"),
                )
                file, name, *counts, finished = given
                run = dict(zip(names, counts, strict=True)) | {"name": name, "finished": finished}
                self.tables["run"][file] = run

    async def copy_records_to_table(self, table: str, *, columns: Sequence[str], records: Iterable[Any]) -> None:
        records = list(records)
        if records and self.refuses:
            raise self.refuses.pop(0)
        if table != "applicant_search":  # nothing here looks for people
            self._insert(table, columns, records)

    def _insert(self, table: str, columns: Sequence[str], records: Iterable[Any]) -> None:
        for record in records:
            row = dict(zip(columns, record, strict=True))
            if table == "event":
                self.events.append(row | {"erased": None})
                if not row["bulk"]:
                    self._follow(row)
            else:
                assert row["code"] not in self.dossiers
                self.dossiers[row["code"]] = ABSENT | row
