"""`hoso24 audit verify`: the log against the tree and against kept checkpoints (walk.py), and rows against the log.

Nothing is believed but the public key and the checkpoints that somebody kept. The auditor's role reads the log, and the
rows without an applicant; a standby will do. Memory is constant: events are read a page at a time, dossiers in pages of
DOSSIERS, each page in one snapshot. It may run beside live changes and the notary.

A dossier's row is compared with the fold of its events (fold.py), its tasks with what the same events make of them
(fold_tasks.py), its official number with the table of numbers, and its applicant with the digest in the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from intake.books.checkpoint import VerifierKey
from intake.books.fold import ERASED, FOLDED_COLUMNS, DoesNotFollow, differences, folded
from intake.books.fold_tasks import TASK_COLUMNS, folded_tasks, left_in_removed, task_differences
from intake.books.published import Books
from intake.books.seal import HASHED_COLUMNS
from intake.books.walk import CannotVerify, Followed, Kept, Progress, Report, Walk, counted
from lookup import sandbox
from ops.errors import Refusal

DOSSIERS: Final = 2_000
"""Dossiers of a page."""


def _readable(name: str) -> str:
    """A column as programs can read it; a time that only PostgreSQL knows, as the year 20000, is null."""
    if name in {"pauses", "timeline"}:
        return f"{name}::text AS {name}"
    if name.endswith("_at"):
        return f"CASE WHEN {name} BETWEEN '0001-01-02' AND '9999-12-30' THEN {name} END AS {name}"
    return name


_ROW = ", ".join(map(_readable, FOLDED_COLUMNS))
_EVENT = ", ".join(map(_readable, HASHED_COLUMNS))
_RANGE = "code > $1 AND code <= $2"
_NAMED = "code = ANY ($1)"

COUNT = "SELECT count(code) FROM dossier"
PAGE = f"SELECT {_ROW} FROM dossier WHERE code > $1 ORDER BY code LIMIT $2"
NUMBERS = f"SELECT code, number FROM dossier_number WHERE {_RANGE}"
PERSONS = f"SELECT code, digest FROM dossier_person WHERE {_RANGE}"
TASKS = f"SELECT code, version, {', '.join(map(_readable, TASK_COLUMNS))} FROM task WHERE {_RANGE}"
PAPERS = f"SELECT code, version, agency, form, year, number, digest FROM paper WHERE {_RANGE}"
EVENTS = f"SELECT erased, {_EVENT} FROM event WHERE {_RANGE} ORDER BY code, version"

PAGE_NAMED = f"SELECT {_ROW} FROM dossier WHERE {_NAMED} ORDER BY code"
NUMBERS_NAMED = NUMBERS.replace(_RANGE, _NAMED)
PERSONS_NAMED = PERSONS.replace(_RANGE, _NAMED)
TASKS_NAMED = TASKS.replace(_RANGE, _NAMED)
PAPERS_NAMED = PAPERS.replace(_RANGE, _NAMED)
EVENTS_NAMED = EVENTS.replace(_RANGE, _NAMED)

# The auditor does not read the catalogue: which agencies are the sandbox's is told by what its task wrote.
SANDBOX = "SELECT DISTINCT split_part(origin, '.', 1) AS root FROM event WHERE source = $1"

# An event that no program of ours wrote may hold anything.
_NOT_FOLDED = (DoesNotFollow, Refusal, IndexError, ValueError, TypeError, KeyError, AttributeError, msgspec.DecodeError)

_LAST_CODE = "\U0010ffff"


@dataclass
class Verified:
    """What was compared, and how much of it."""

    log: Followed | None = None
    """None without books."""
    findings: int = 0
    dossiers: int = 0
    """Without those of the sandbox, which are compared as well."""
    events: int = 0
    """Of these dossiers."""
    of_sandbox: int = 0
    """Dossiers of the sandbox."""
    erased: int = 0
    erased_in_use: int = 0
    """Erased events of dossiers that are not removed."""

    def sentence(self) -> str:
        """What was compared and what came of it, for people."""
        compared = [counted(self.events, "event"), counted(self.dossiers, "dossier")]
        if self.log is not None:
            compared.append(f"checkpoint of {counted(self.log.checkpoint.size, 'leaf', 'leaves')}")
            if self.log.start:
                compared.append(f"from leaf {self.log.start:,} on")
        outcome = "nothing was altered" if self.findings == 0 else counted(self.findings, "finding")
        told = [f"{', '.join(compared)}: {outcome}."]
        if self.log is None:
            told.append(
                "Without --books only rows were compared with the log; whether the log was rewritten is not known."
            )
        elif self.log.waiting:
            age = self.log.oldest.total_seconds()
            waiting = counted(self.log.waiting, "event is", "events are")
            told.append(f"{waiting} not in the books yet, the oldest for {age:,.1f} s.")
        if self.log is not None and (self.log.void or self.log.late):
            void = counted(self.log.void, "entry is", "entries are")
            told.append(f"As the books say of restores, {void} void and {self.log.late:,} came late.")
        if self.of_sandbox:
            told.append(f"{counted(self.of_sandbox, 'dossier')} of the sandbox were compared as well.")
        if self.erased:
            told.append(f"{counted(self.erased, 'event is', 'events are')} erased.")
        if self.erased_in_use:
            told.append(f"{self.erased_in_use:,} of them are of dossiers in use: what these told cannot be compared.")
        return " ".join(told)

    def turns(self) -> list[str]:
        """A line for each turn of the books: what a restore has undone."""
        return [
            f"Turn to epoch {turn.epoch} at leaf {turn.size:,}: "
            f"{', '.join(f'leaves {first:,} to {last:,}' for first, last in turn.void) or 'no leaves'} void, "
            f"{counted(turn.late, 'event')} late. Was there a restore?"
            for turn in (self.log.turns if self.log else ())
        ]


async def verify(
    connection: Any,
    report: Report,
    *,
    books: Books | None = None,
    key: VerifierKey | None = None,
    kept: Sequence[Kept] = (),
    since: Kept | None = None,
    progress: Progress = lambda what, done, of: None,
) -> Verified:
    """Compare everything, or with `since` what came after that checkpoint; `report` gets each finding, a line.

    `connection` is the auditor's. Without `books` rows are compared with the log, and nothing else is. Raises
    CannotVerify, published.CannotRead, and what the connection raises.
    """
    result = Verified()

    def found(sentence: str) -> None:
        result.findings += 1
        report(sentence)

    rows = _Rows(connection, result, found)
    if books is not None:
        if key is None:
            raise CannotVerify("Books are verified with their public key: give --key.")
        walk = Walk(connection, books, key, found, progress)
        result.log = await walk.follow(kept, since, rows.named if since else None)
    elif kept or since:
        raise CannotVerify("A checkpoint is compared with books: give --books.")
    if since is None:
        await rows.every(progress)
    return result


class _Rows:
    """Rows against the fold of their events."""

    def __init__(self, connection: Any, result: Verified, found: Report) -> None:
        self._connection = connection
        self._result = result
        self._found = found
        self._sandbox: frozenset[str] | None = None

    async def every(self, progress: Progress) -> None:
        """All dossiers, and events of dossiers there are not."""
        after, count = "", await self._connection.fetchval(COUNT)
        while after != _LAST_CODE:
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                page = await self._connection.fetch(PAGE, after, DOSSIERS)
                upto = page[-1]["code"] if len(page) == DOSSIERS else _LAST_CODE
                await self._compare(page, NUMBERS, PERSONS, TASKS, PAPERS, EVENTS, after, upto)
            after = upto
            progress("dossiers", self._result.dossiers + self._result.of_sandbox, count)

    async def named(self, codes: list[str]) -> None:
        """The dossiers with these codes."""
        for start in range(0, len(codes), DOSSIERS):
            some = codes[start : start + DOSSIERS]
            async with self._connection.transaction(isolation="repeatable_read", readonly=True):
                page = await self._connection.fetch(PAGE_NAMED, some)
                named = (NUMBERS_NAMED, PERSONS_NAMED, TASKS_NAMED, PAPERS_NAMED, EVENTS_NAMED)
                await self._compare(page, *named, some)

    async def _compare(
        self, page: Sequence[Any], numbers: str, persons: str, tasks: str, papers: str, events: str, *which: Any
    ) -> None:
        if self._sandbox is None:
            told = await self._connection.fetch(SANDBOX, sandbox.SOURCE)
            self._sandbox = frozenset(row["root"] for row in told)
        rows = {row["code"]: row for row in page}
        bound = dict(await self._connection.fetch(numbers, *which))
        digests = dict(await self._connection.fetch(persons, *which))
        owed: dict[str, list[Any]] = {}
        for task in await self._connection.fetch(tasks, *which):
            owed.setdefault(task["code"], []).append(task)
        issued: dict[str, list[Any]] = {}
        for paper in await self._connection.fetch(papers, *which):
            issued.setdefault(paper["code"], []).append(paper)
        life: list[Any] = []
        async for event in self._connection.cursor(events, *which, prefetch=DOSSIERS):
            if life and life[0]["code"] != event["code"]:
                self._papers(life, issued)
                self._dossier(life, rows, bound, digests, owed)
                life = []
            life.append(event)
        if life:
            self._papers(life, issued)
            self._dossier(life, rows, bound, digests, owed)
        for papers_of_none in issued.values():
            for paper in papers_of_none:
                self._found(f"{_name(paper)} is of a dossier without events: it is no paper.")
        for code in rows:
            self._found(f"{code} has no events.")
        for code, number in bound.items():
            self._found(f"{code}: the number {number} is bound to it, and the log knows of none.")
        of_sandbox = sum(self._is_sandbox(row) for row in page)
        self._result.of_sandbox += of_sandbox
        self._result.dossiers += len(page) - of_sandbox

    def _papers(self, life: Sequence[Any], issued: dict[str, list[Any]]) -> None:
        """Papers against the digests in the events that issued them."""
        code = life[0]["code"]
        told = {event["version"]: event["paper"] for event in life if event["paper"] is not None}
        for paper in issued.pop(code, ()):
            digest = told.pop(paper["version"], None)
            if digest is None:
                self._found(f"{_name(paper)}: no event of {code} issued it, so it is no paper.")
            elif digest != paper["digest"]:
                self._found(f"{_name(paper)}: event {paper['version']} of {code} issued another content.")
        for version in told:
            self._found(f"event {version} of {code} issued a paper, and there is none.")

    def _is_sandbox(self, row: Any) -> bool:
        """Whether a row or an event is of the sandbox."""
        return row["origin"].partition(".")[0] in (self._sandbox or ())

    def _dossier(
        self,
        life: Sequence[Any],
        rows: dict[str, Any],
        bound: dict[str, str],
        digests: dict[str, bytes | None],
        owed: dict[str, list[Any]],
    ) -> None:
        code = life[0]["code"]
        row, number, digest = rows.pop(code, None), bound.pop(code, None), digests.pop(code, None)
        tasks = owed.pop(code, [])
        self._result.events += 0 if self._is_sandbox(life[0]) else len(life)
        erased = sum(event["erased"] is not None for event in life)
        self._result.erased += erased
        gaps = sorted(set(range(1, life[-1]["version"] + 1)) - {event["version"] for event in life})
        for version in gaps:
            self._found(f"event {version} of {code} is missing from the log.")
        if row is None:
            self._found(f"{code} has events, and there is no such dossier.")
            return
        self._result.erased_in_use += 0 if row["removed"] else erased
        if gaps:
            return
        try:
            told = folded(life)
            wrongs = differences(row, told)
        except _NOT_FOLDED as wrong:
            self._found(f"{code}: its row cannot be made from its events: {wrong}.")
            return
        if told["official_number"] is not ERASED and number != told["official_number"]:
            wrongs.append(
                f"the number bound to it is {number or 'none'}, the log says {told['official_number'] or 'none'}"
            )
        wrongs += self._tasks(life, row, tasks, erased)
        if digest is not None and digest != _person(life):
            wrongs.append("the applicant is not the one that the log knows")
        if wrongs:
            self._found(f"{code}: {'; '.join(wrongs)}.")

    @staticmethod
    def _tasks(life: Sequence[Any], row: Any, tasks: Sequence[Any], erased: int) -> list[str]:
        if erased:
            return left_in_removed(tasks) if row["removed"] else []
        try:
            return task_differences(tasks, folded_tasks(life))
        except _NOT_FOLDED as wrong:
            return [f"its tasks cannot be made from its events: {wrong}"]


def _name(paper: Mapping[str, Any]) -> str:
    return f"{paper['form']} {paper['number']}/{paper['year']} of {paper['agency']}"


def _person(life: Sequence[Mapping[str, Any]]) -> bytes | None:
    """The digest of the applicant in the newest event that names one."""
    return next((event["person"] for event in reversed(life) if event["person"] is not None), None)
