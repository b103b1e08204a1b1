"""What is expected: every change that was asked for and every one that was acknowledged, and a judge that compares an
answer with them. Knows HTTP answers and no network.

A version may be shown from the moment it was asked for; from the soft age after its acknowledgement on nothing older
may be, unless it is marked. In between both are right.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from loadtests import answers, pages
from loadtests.answers import SOFT_AGE, Answer, Failure, Limited, Status, Unavailable, Wrong
from loadtests.codes import address

LOG = """
SELECT code, version, status, source, source_event_id
  FROM event
 WHERE code = ANY($1::text[])
 ORDER BY code, version
"""

# The numbers of a day are given out in the transaction that takes a dossier in: one that no answer has told of
# was taken in twice, or without a request.
NOT_ASKED_FOR = """
SELECT code, source_event_id
  FROM event
 WHERE version = 1 AND source = $1 AND source_event_id <> ALL($2::text[])
 ORDER BY code
"""

AT_A_TIME = 2000
AT_ONCE = 200
PROCESSES = 64
"""Processes whose answers are remembered at the most; the one heard of least lately is forgotten first."""
CLOCKS = 0.25
"""Seconds by which a lookup may misjudge the database's clock, and we the moments in its answers."""
MINUTE = 60
"""Pages say as of which minute, rounded down; in seconds."""
UNKNOWN = "unknown"
"""The due date of a version that was not acknowledged, or that was imported."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a citizen asks for. `code` is None where there is no such dossier: `text` is asked for all the same."""

    kind: str
    """known, changing, unknown, page, holder or at_least."""
    text: str
    code: str | None
    at_least: int = 0
    language: str = ""
    """Of a page: vi or en; empty for JSON."""
    key: str = ""
    """The lookup key, when its holder asks."""
    gzip: bool = False

    @property
    def path(self) -> str:
        """The address to ask at."""
        if self.language:
            return f"{pages.FORMS[self.language]}/{address(self.text)}"
        return f"/api/v1/dossiers/{address(self.text)}" + (f"?at_least={self.at_least}" if self.at_least else "")

    @property
    def headers(self) -> dict[str, str]:
        """What is sent along: a browser has the key in a cookie, a program in a header."""
        key = {"Cookie": f"{pages.KEY_COOKIE}={self.key}"} if self.language else {"Hoso24-Key": self.key}
        return (key if self.key else {}) | ({"Accept-Encoding": "gzip"} if self.gzip else {})


@dataclass(slots=True, eq=False)
class ExpectedChange:
    """One version of a dossier: asked for, and perhaps acknowledged. Moments on the monotonic clock."""

    key: str
    """The Idempotency-Key, under which the log has it; empty for an import."""
    code: str
    """Empty for a submission that has not been answered."""
    version: int
    status: str
    """Empty for a submission that has not been answered."""
    began: float
    acknowledged: float = math.inf
    before: "ExpectedChange | None" = None
    due_at: str = UNKNOWN
    """As intake answered, to the minute as a page has it; empty for none."""
    lookup_key: str = ""
    """Of the receipt that a submission was answered with."""

    def passed(self) -> list[str]:
        """The statuses it has gone through, the present one last."""
        return [*(self.before.passed() if self.before else ()), self.status]


class Judgement(NamedTuple):
    """What an answer is worth, why it is not good if it is not, and how old it says it is, in seconds."""

    outcome: str
    why: str = ""
    age: float | None = None


class _Shown(NamedTuple):
    """What an answer shows. Pages say no version."""

    version: int | None
    status: str
    completion: float | None
    """None on a page of one that ended without a result."""
    due_at: str
    """To the minute; empty for none."""
    marked: bool
    age: float | None
    as_of: float
    """The earliest moment it may mean, on the monotonic clock."""


class Expected:
    """Every change, and what each process has shown. Judges at once; grows by some hundred bytes a change.

    `soft_age`, `hard_age` and `negative` are the service's bounds in seconds: nothing older than the first goes out
    unmarked, nothing older than the second at all, and "no such dossier" is repeated for as long as the third.
    """

    def __init__(
        self,
        statuses: Mapping[str, Status] | None = None,
        *,
        soft_age: float = SOFT_AGE,
        hard_age: float = 86_400.0,
        negative: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.statuses = dict(statuses or {})
        """By name, as the lookup publishes them; without them no answer can be judged."""
        self.wrong = 0
        """Wrong answers so far."""
        self._soft, self._hard, self._negative = soft_age, hard_age, negative
        self._monotonic, self._wall = monotonic, wall
        self._lives: dict[str, list[ExpectedChange]] = {}
        """Per code its versions, the first being the reception."""
        self._submissions: list[ExpectedChange] = []
        self._shown: OrderedDict[str, dict[str, list[tuple[int, float]]]] = OrderedDict()
        """Per process and code the versions it has shown unmarked, rising, and when each was first shown."""
        self._seen: dict[str, float] = {}
        """Per code when it was first shown."""
        self._struck: dict[str, list[ExpectedChange]] = {}
        """Per code what was made and then undone."""
        self._buried: dict[str, float] = {}
        """Since when none of that may be shown any more; infinity until bury() is called."""

    # -- what is written down --------------------------------------------------------------------------------

    def submit(self, key: str) -> ExpectedChange:
        """A submission is about to be sent, under that Idempotency-Key."""
        change = ExpectedChange(key, "", 1, "", self._monotonic())
        self._submissions.append(change)
        return change

    def move(self, key: str, code: str, status: str) -> ExpectedChange:
        """A move to that status is about to be sent: the next version of a dossier whose last one is known for sure.

        Raises ValueError when it is not: after a change whose outcome is unknown nothing is moved.
        """
        life = self._lives[code]
        if math.isinf(life[-1].acknowledged):
            raise ValueError(f"{code}: version {life[-1].version} has not been acknowledged")
        change = ExpectedChange(key, code, life[-1].version + 1, status, self._monotonic(), before=life[-1])
        life.append(change)
        return change

    def acknowledge(self, change: ExpectedChange, answer: Mapping[str, Any]) -> str:
        """The intake's answer to a change: code, version, status, due_at. Returns what is wrong with it, or nothing."""
        code, version, status = str(answer["code"]), int(answer["version"]), str(answer["status"])
        why = ""
        if not change.code:
            if code in self._lives:
                return f"a submission was given the code of another one ({code})"
            change.code, change.status = code, status
            self._lives[code] = [change]
        life = self._lives.get(change.code, [])
        if change not in life and len(life) == change.version - 1:  # made once more after it was struck
            change.before = life[-1] if life else None
            self._lives.setdefault(change.code, []).append(change)
        if (code, version, status) != (change.code, change.version, change.status):
            why = f"another change was acknowledged than was asked for ({code}: version {version}, {status})"
        change.acknowledged, change.due_at = self._monotonic(), _minute(answer["due_at"])
        change.lookup_key = str(answer.get("lookup_key", ""))
        return why

    def push(self, key: str, code: str, status: str) -> ExpectedChange:
        """A step is about to be pushed by the system whose dossier this is: a new dossier where none is known."""
        if code in self._lives:
            return self.move(key, code, status)
        change = ExpectedChange(key, code, 1, status, self._monotonic())
        self._lives[code] = [change]
        self._submissions.append(change)
        return change

    def acknowledge_push(self, change: ExpectedChange, line: Mapping[str, Any]) -> str:
        """The line of an answer to a push: dossier and version. Returns what is wrong with it, or nothing."""
        if not math.isinf(change.acknowledged):  # the body was sent again
            return ""
        answer = {"code": line["dossier"], "version": line["version"], "status": change.status, "due_at": None}
        wrong = self.acknowledge(change, answer | {"lookup_key": line.get("lookup_key", "")})
        change.due_at = UNKNOWN
        return wrong

    def imported(self, code: str, statuses: Sequence[str], began: float) -> None:
        """An import that began at that moment has brought this dossier along, with these statuses in that order."""
        now = self._monotonic()
        life = self._lives[code] = []
        for n, status in enumerate(statuses, 1):
            life.append(ExpectedChange("", code, n, status, began, now, life[-1] if life else None))

    def current(self, code: str) -> int:
        """The version that was last acknowledged; 0 for none."""
        return next((c.version for c in reversed(self._lives.get(code, ())) if not math.isinf(c.acknowledged)), 0)

    def status(self, code: str) -> str:
        """The status that was last acknowledged. Raises KeyError for a dossier that is not known."""
        return self._lives[code][self.current(code) - 1].status

    def passed(self, code: str) -> list[str]:
        """The acknowledged statuses it has gone through, the present one last. Raises KeyError as status() does."""
        return self._lives[code][self.current(code) - 1].passed()

    def key(self, code: str) -> str:
        """The lookup key of its receipt; empty where there is none, as of an import."""
        return life[0].lookup_key if (life := self._lives.get(code)) else ""

    def codes(self) -> list[str]:
        """Dossiers acknowledged by submission, oldest first."""
        return [change.code for change in self._submissions if not math.isinf(change.acknowledged)]

    def acknowledged(self) -> dict[str, int]:
        """Every dossier there is, imports included, with the version that was last acknowledged."""
        return {code: version for code in self._lives if (version := self.current(code))}

    def changed_since(self, moment: float) -> dict[str, int]:
        """Dossiers of which a change was acknowledged at that moment or later, no import, and their last versions."""
        return {
            code: self.current(code)
            for code, life in self._lives.items()
            if any(c.key and moment <= c.acknowledged < math.inf for c in life)
        }

    def changes(self) -> int:
        """How many changes were acknowledged, imports left out."""
        return sum(bool(c.key) and not math.isinf(c.acknowledged) for life in self._lives.values() for c in life)

    def differs(self, told: Mapping[str, int]) -> list[str]:
        """Where these versions are not those that were acknowledged last, one sentence each.

        Of a change whose outcome is unknown both are right. Nothing may be under way.
        """
        found = [
            f"{code} is at version {told.get(code, 0)}, {self.current(code)} was acknowledged"
            for code, life in self._lives.items()
            if not self.current(code) <= told.get(code, 0) <= life[-1].version
        ]
        strange = [f"{code} was not asked for" for code in told if code not in self._lives]
        return found + strange[sum(not change.code for change in self._submissions) :]

    # -- when Postgres goes back in time -----------------------------------------------------------------------

    def strike(self, lost: Iterable[tuple[str, int]]) -> None:
        """These versions, and what was made on top of them, were undone: Postgres has gone back in time.

        From now on what was undone may be shown and what the log has as well, until bury() is called. What is made
        anew under the same code and version counts as new; lost() does not miss what was struck.
        """
        for code, version in lost:
            life = self._lives.get(code, [])
            undone = life[version - 1 :]
            if not undone:
                continue
            self._struck.setdefault(code, []).extend(undone)
            self._buried[code] = math.inf
            del life[version - 1 :]
            if not life:
                del self._lives[code]
                self._submissions = [change for change in self._submissions if change not in undone]
            self._forget(code)

    def bury(self) -> None:
        """What was struck is gone everywhere: an answer asked for from now on that shows it is wrong, marked or not."""
        for code, since in self._buried.items():
            if math.isinf(since):
                self._buried[code] = self._monotonic()

    def _forget(self, code: str) -> None:
        self._seen.pop(code, None)
        for shown in self._shown.values():
            shown.pop(code, None)

    def _may_be_undone(self, code: str, asked_at: float) -> bool:
        """Whether an answer about this dossier may be of a time that was undone."""
        return asked_at < self._buried.get(code, -math.inf)

    # -- the judge -------------------------------------------------------------------------------------------

    def judge(
        self, question: Question, answer: Answer, asked_at: float, answered_at: float, process: str = ""
    ) -> Judgement:
        """What this answer is worth: good, stale, limited, unavailable or wrong.

        `process` is who answered, under a name that no process started later has; "" where that is not known.
        """
        try:
            verdict = self._judged(question, answer, asked_at, answered_at, process)
        except Limited as limited:
            verdict = Judgement("limited", str(limited))
        except Unavailable as away:
            verdict = Judgement("unavailable", str(away))
        except Failure as wrong:
            verdict = Judgement("wrong", f"{wrong} ({wrong.detail})" if wrong.detail else str(wrong))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            verdict = Judgement("wrong", f"cannot be read ({type(error).__name__}: {error})")
        self.wrong += verdict.outcome == "wrong"
        return verdict

    def _judged(self, asked: Question, answer: Answer, asked_at: float, answered_at: float, process: str) -> Judgement:
        if answer.status == 404:
            self._judge_missing(asked, answer, asked_at, process)
            return Judgement("good")
        if answer.status == 412 and asked.at_least:
            self._judge_not_reached(asked, answer, asked_at)
            return Judgement("good")
        if answer.status in (502, 503, 504) and "x-request-id" not in answer.headers:
            raise Unavailable(f"answered {answer.status} by what stands in front")
        if asked.code is None:
            answer.expect(404)
        shown = self._read(asked, answer, asked_at)
        code = asked.code or ""
        if self._may_be_undone(code, asked_at):
            self._judge_undone(asked, shown)
            return Judgement("stale" if shown.marked else "good", "", shown.age)
        if shown.as_of > answered_at + 1:
            raise Wrong("as of a moment to come", f"{code}: in {shown.as_of - answered_at:.1f} s")
        if shown.marked:
            if answered_at - shown.as_of > self._hard + (MINUTE if shown.version is None else 1):
                raise Wrong("older than the hard age", code)
        elif shown.age is not None and shown.age > self._soft:
            raise Wrong("older than the soft age and not marked", f"{code}: {shown.age:g} s")
        if shown.version is not None:
            self._judge_version(asked, shown, shown.version, asked_at, answered_at)
            if not shown.marked:
                self._judge_order(code, shown.version, process, asked_at)
                self._remember(code, shown.version, process, answered_at)
        else:
            self._judge_page(asked, shown, asked_at, answered_at)
        self._seen.setdefault(code, answered_at)
        return Judgement("stale" if shown.marked else "good", "", shown.age)

    def _judge_undone(self, asked: Question, shown: _Shown) -> None:
        """What was struck and has not been buried is as right as what the log has, however old and in any order."""
        code = asked.code or ""
        possible = [*self._struck[code], *self._lives.get(code, ())]
        if shown.version is not None:
            possible = [c for c in possible if c.version == shown.version]
        if not any(c.status == shown.status and not self._contradiction(asked, shown, c) for c in possible):
            raise Wrong("what it shows is of no version it may show", f"{code}: {shown.version}, {shown.status}")

    def _judge_missing(self, asked: Question, answer: Answer, asked_at: float, process: str) -> None:
        if asked.language:
            pages.other(answer, 404, asked.language)
        else:
            answers.problem(answer, 404, "dossier_or_key_not_found" if asked.key else "dossier_not_found")
        life = self._lives.get(asked.code or "")
        if not life:
            return
        code = life[0].code
        if asked.at_least and any(c.acknowledged < asked_at for c in life[asked.at_least - 1 :]):
            raise Wrong("asked for a version that there is, it was told of no dossier", code)
        shown = self._shown.get(process, {}).get(code) if process else None
        if shown is not None and shown[0][1] < asked_at:
            raise Wrong("a process says of a dossier it had shown that there is none", f"{code}: {process}")
        # What was shown once was committed, as was what was acknowledged.
        if min(life[0].acknowledged, self._seen.get(code, math.inf)) < asked_at - self._negative - CLOCKS:
            raise Wrong("a dossier that had long been there is said not to exist", code)

    def _judge_not_reached(self, asked: Question, answer: Answer, asked_at: float) -> None:
        answers.problem(answer, 412, "version_not_reached")
        code = asked.code or ""
        there = any(c.acknowledged < asked_at for c in self._lives.get(code, ())[asked.at_least - 1 :])
        if there and not self._may_be_undone(code, asked_at):
            raise Wrong("asked for a version that there is, it was told that it is not reached", code)

    def _judge_version(self, asked: Question, shown: _Shown, version: int, asked_at: float, answered_at: float) -> None:
        code = asked.code or ""
        life = self._lives.get(code, [])
        if not 1 <= version <= len(life) or life[version - 1].began > answered_at:
            raise Wrong("a version that was never made", f"{code}: {version} of {len(life)}")
        if life[version - 1].status != shown.status:
            due = life[version - 1].status
            raise Wrong("a status that is not that version's", f"{code}: {version} is {due}, {shown.status} was shown")
        if why := self._contradiction(asked, shown, life[version - 1]):
            raise Wrong(*why)
        superseded = self._superseded(life, version)
        if not shown.marked and superseded < asked_at - self._soft - CLOCKS:
            ago = asked_at - superseded
            raise Wrong("older than the soft age and not marked", f"{code}: {version}, superseded {ago:.1f} s before")
        if superseded < shown.as_of - CLOCKS:
            ago = shown.as_of - superseded
            raise Wrong("says it was the truth when it was not any more", f"{code}: {version}, by {ago:.1f} s")

    def _judge_page(self, asked: Question, shown: _Shown, asked_at: float, answered_at: float) -> None:
        """A page names no version: some version that may be shown must have all that it shows."""
        code = asked.code or ""
        since = -math.inf if shown.marked else asked_at - self._soft - CLOCKS
        life = self._lives.get(code, [])
        possible = [c for c in life if c.began <= answered_at and self._superseded(life, c.version) >= since]
        found = [self._contradiction(asked, shown, c) for c in possible if c.status == shown.status]
        if not found:
            due = ", ".join(sorted({c.status for c in possible})) or "nothing"
            raise Wrong("a page with the status of no version it may show", f"{code}: {shown.status}, {due} is due")
        if all(found):
            raise Wrong(*(found[-1] or ()))

    def _contradiction(self, asked: Question, shown: _Shown, change: ExpectedChange) -> tuple[str, str] | None:
        """What of an answer is not this version's though its status is; in a name and a detail."""
        passed = change.passed()
        share = (pages.share if asked.language else answers.completion)(self.statuses, passed)
        if shown.completion != share:
            return (
                "a degree of completion that is not that version's",
                f"{change.code}: {shown.completion}, {share} is due",
            )
        # What has ended has no due date on its page; who has no key is told of none anywhere.
        due = change.due_at if asked.key and not (asked.language and self.statuses[change.status].final) else ""
        if due not in (shown.due_at, UNKNOWN):
            return (
                "another due date than intake answered",
                f"{change.code}: {shown.due_at or 'none'}, {due or 'none'} is due",
            )
        return None

    def _judge_order(self, code: str, version: int, process: str, asked_at: float) -> None:
        for before, since in self._shown.get(process, {}).get(code, ()) if process else ():
            if before > version and since < asked_at:
                raise Wrong("a process went back to an older version", f"{code}: {process}, {before}, then {version}")

    def _remember(self, code: str, version: int, process: str, answered_at: float) -> None:
        if not process:
            return
        of_process = self._shown.setdefault(process, {})
        self._shown.move_to_end(process)
        if len(self._shown) > PROCESSES:
            self._shown.popitem(last=False)
        known = of_process.setdefault(code, [])
        if not known or version > known[-1][0]:
            known.append((version, answered_at))

    @staticmethod
    def _superseded(life: Sequence[ExpectedChange], version: int) -> float:
        """From when on this version was certainly not the truth any more; infinity while it may be."""
        return min((change.acknowledged for change in life[version:]), default=math.inf)

    # -- reading ---------------------------------------------------------------------------------------------

    def _read(self, asked: Question, answer: Answer, asked_at: float) -> _Shown:
        code, holder = asked.code or "", bool(asked.key)
        if asked.language:
            page = pages.page(answer, code, asked.language, self.statuses, holder=holder, gzip=asked.gzip)
            if page.dates and not holder:
                raise Wrong("a page shows anyone a date", ", ".join(sorted(page.dates)))
            as_of = self._here(page.as_of)
            # The minute is rounded down, and our two clocks are not one: never below nothing for that.
            age = max(0.0, asked_at - as_of - MINUTE)
            return _Shown(None, page.status, page.completion, page.due, page.marked, age, as_of)
        if asked.at_least:
            shown = answers.exact(answer, code, self.statuses, asked.at_least)
        else:
            shown = answers.record(answer, code, self.statuses, holder=holder)
        content, age = answer.json(), float(answer.headers["age"])
        as_of = asked_at - age - 1  # whole seconds: it may have been made as soon as it was asked for
        if shown.stale:
            as_of = self._here(datetime.fromisoformat(content["as_of"]))
        due_at = _minute(content.get("due_at"))
        return _Shown(shown.version, shown.status, content["completion"], due_at, shown.stale, age, as_of)

    def _here(self, moment: datetime) -> float:
        """That moment on the monotonic clock."""
        return moment.timestamp() - self._wall() + self._monotonic()

    # -- at the end ------------------------------------------------------------------------------------------

    async def lost(self, connection: Any) -> list[str]:
        """What the log does not hold of what was acknowledged, and what it holds that was not asked for, one sentence
        each. `connection` (asyncpg) may read the events. Changes may go on meanwhile.
        """
        asked_at = self._monotonic()
        log = await self._log(connection)
        found: list[str] = []
        for number, (code, life) in enumerate(list(self._lives.items())):
            found += self._compare(life, log.get(code, []), asked_at)
            if number % AT_ONCE == 0:
                await asyncio.sleep(0)  # the load goes on in this loop
        return found + await self._not_asked_for(connection, log)

    def _compare(self, life: Sequence[ExpectedChange], log: Sequence[Any], asked_at: float) -> Iterable[str]:
        for change in life:
            row = log[change.version - 1] if change.version <= len(log) else None
            said = f"{change.code}: version {change.version} ({change.status})"
            if row is None:
                if change.acknowledged <= asked_at:
                    yield f"{said} was acknowledged and is not in the log"
            elif self._name(row["status"]) != change.status or (change.key and row["source_event_id"] != change.key):
                yield f"{said} is {self._name(row['status'])} in the log, by {row['source']}"
        for row in log[len(life) :]:
            yield f"{life[0].code}: version {row['version']} ({self._name(row['status'])}) was not asked for"

    async def _not_asked_for(self, connection: Any, log: Mapping[str, Sequence[Any]]) -> list[str]:
        sources = {rows[0]["source"] for code in self.codes() if (rows := log.get(code))}
        found: list[str] = []
        for source in sorted(sources):
            rows = await connection.fetch(NOT_ASKED_FOR, source, [change.key for change in self._submissions])
            asked_for = {change.key for change in self._submissions}  # more than when the log was read, perhaps
            strange = [row["code"] for row in rows if row["source_event_id"] not in asked_for]
            found += [f"{code}: taken in, and was not asked for" for code in strange]
        return found

    async def _log(self, connection: Any) -> dict[str, list[Any]]:
        codes, log = list(self._lives), dict[str, list[Any]]()
        for start in range(0, len(codes), AT_A_TIME):
            for row in await connection.fetch(LOG, codes[start : start + AT_A_TIME]):
                log.setdefault(row["code"], []).append(row)
        return log

    def _name(self, number: int) -> str:
        return next((name for name, status in self.statuses.items() if status.number == number), str(number))


def _minute(moment: str | None) -> str:
    """A moment of an answer as pages have it; empty for none."""
    return datetime.fromisoformat(moment).isoformat(timespec="minutes") if moment else ""
