"""Lines of a synchronisation, written a batch at a time: one transaction locks their dossiers, folds the lines in
memory, and appends all events at once.

Two batches may concern the same dossiers, and have the same ids on other dossiers. Dossiers are locked in the order of
their codes; ids are looked up behind the locks. An id that another transaction has taken meanwhile, a deadlock over
ids, and a line that the database refuses end the transaction: its halves are tried by themselves.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import asyncpg
import msgspec

from intake.books import applicant_rows, task_rows
from intake.books.dossier import DOSSIER_COLUMNS
from intake.books.lag import LAG
from intake.books.ledger import LOCK_DOSSIERS, state_of
from intake.books.seal import ROW_COLUMNS
from intake.books.sequences import RAISE_SEQUENCES
from intake.dialects.dated import TIME_UNKNOWN
from intake.partners import letters
from intake.partners.answers import LineAnswer
from intake.partners.letters import RefusedLine
from intake.partners.lines import Told
from intake.partners.writing import Fold, Moment, Partner, rejected, step_of
from intake.refusals import IdReused
from intake.rules.apply import TOLD_AT
from intake.rules.changes import State
from intake.rules.reconcile import Step
from lookup import code as codes
from lookup.code import Scheme

POSITION = f"""
SELECT now()                           AS now,
       (SELECT max(number) FROM epoch) AS epoch,
       ({LAG})                         AS lag
"""

# A dossier that this client made may have lost its answer: the key is told again.
SEEN = """
SELECT e.source_event_id, e.code, e.version, e.kind, coalesce(e.step_status, e.status) AS status, e.occurred_at,
       e.detail,
       CASE WHEN e.version <= 2
            THEN (SELECT d.key_serial FROM dossier AS d WHERE d.code = e.code AND d.submitted_by = $1) END AS key_serial
  FROM unnest($2::text[]) AS wanted (id)
 CROSS JOIN LATERAL (SELECT *
                       FROM event
                      WHERE source = $1
                        AND source_event_id = wanted.id
                      LIMIT 1) AS e
"""

STEPS = """
SELECT e.code, e.occurred_at, coalesce(e.step_status, e.status) AS status, e.detail,
       coalesce($2 = ANY (e.flags), false) AS untimed
  FROM unnest($1::text[]) AS wanted (code)
 CROSS JOIN LATERAL (SELECT *
                       FROM event
                      WHERE event.code = wanted.code
                        AND kind IN ('received', 'moved', 'noted')
                      ORDER BY version) AS e
"""

TAKEN = """
SELECT number FROM dossier_number WHERE number = ANY ($1)
 UNION ALL
SELECT code FROM dossier WHERE code = ANY ($1)
"""

TRY_HALVES: Final = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.DeadlockDetectedError,
)


async def position(connection: Any) -> Moment:
    """Now, the epoch, and the relay's lag; 0 for a relay that does not say."""
    row = await connection.fetchrow(POSITION)
    return Moment(row["now"], row["epoch"], row["lag"] or 0.0)


async def seen(connection: Any, partner: Partner, lines: Sequence[Told]) -> dict[int, LineAnswer]:
    """The answers to lines whose ids are in the log, by number."""
    rows = {row["source_event_id"]: row for row in await connection.fetch(SEEN, *_asked(partner, lines))}
    return {line.number: _again(partner, line, rows[line.id]) for line in lines if line.id in rows}


async def put(
    connection: Any, partner: Partner, lines: Sequence[Told], refused: Sequence[RefusedLine] = ()
) -> tuple[Moment, list[LineAnswer]]:
    """Write these lines in the caller's transaction; their answers, which hold once that has committed.

    `refused`: lines that could not be read; they are kept with those that are refused here. Raises TRY_HALVES, and
    what the connection raises.
    """
    moment = await position(connection)
    answers = await _put(connection, partner, lines, moment) if lines else []
    raw = {line.number: line.raw for line in lines}
    dead = [letter_of(each, raw[each.line]) for each in answers if each.result == "rejected"]
    await letters.keep(connection, partner.client.id, [*refused, *dead])
    settled = [each.id for each in answers if each.id is not None and each.result in letters.SETTLES]
    await letters.close(connection, partner.client.id, settled)
    return moment, answers


def letter_of(refused: LineAnswer, line: bytes) -> RefusedLine:
    """The line that was answered so, as it is kept."""
    return RefusedLine(refused.id, line, refused.code or "", refused.detail or "")


async def _put(connection: Any, partner: Partner, lines: Sequence[Told], moment: Moment) -> list[LineAnswer]:
    wanted = sorted({line.code.text for line in lines})
    states = await _locked(connection, wanted)
    answers = await seen(connection, partner, lines)
    rest = [line for line in lines if line.number not in answers]
    fold = Fold(partner, moment, states, await _taken(connection, rest, states))
    histories = sorted({line.code.text for line in rest if line.digested and line.code.text in states})
    if histories:
        fold.steps |= await _steps(connection, histories)
    tasks = {code: state.tasks for code, state in states.items()}
    for line in rest:
        answers[line.number] = fold.answer(line)
    if fold.raised:
        agencies, days = zip(*fold.raised, strict=True)
        await connection.execute(RAISE_SEQUENCES, agencies, days, list(fold.raised.values()))
    if fold.dossiers:
        fold.dossiers.sort()  # of two transactions with the same new codes the second waits once
        await connection.copy_records_to_table("dossier", columns=DOSSIER_COLUMNS, records=fold.dossiers)
        await applicant_rows.copy(connection, fold.dossiers)
    if fold.events:
        await connection.copy_records_to_table("event", columns=ROW_COLUMNS, records=fold.events)
        await task_rows.write(connection, ((tasks.get(code, ()), state) for code, state in fold.states.items()))
    return [answers[line.number] for line in lines]


def _asked(partner: Partner, lines: Sequence[Told]) -> tuple[str, list[str]]:
    return partner.client.id, sorted({line.id for line in lines})


async def _locked(connection: Any, wanted: list[str]) -> dict[str, State]:
    """The states of those that are stored; of a removed one too. All are locked, in the order of their codes."""
    rows = {row["code"]: row for row in await connection.fetch(LOCK_DOSSIERS, wanted)}
    waited = [code for code in wanted if code in rows and rows[code]["newest"] != rows[code]["version"]]
    if waited:
        rows |= {row["code"]: row for row in await connection.fetch(LOCK_DOSSIERS, waited)}
    return {code: state_of(row) for code, row in rows.items()}


async def _taken(connection: Any, lines: Sequence[Told], states: Mapping[str, State]) -> set[str]:
    """Those numbers and unknown codes of the lines that are numbers or codes of dossiers. Only scheme D is both."""
    asked = {line.official_number for line in lines if line.official_number is not None}
    asked |= {each.code.text for each in lines if each.code.scheme is Scheme.D and each.code.text not in states}
    if not asked:
        return set()
    spelt = set()
    for number in asked:
        try:
            spelt.add(codes.parse(number).text)
        except codes.MalformedCode:
            continue
    return {row["number"] for row in await connection.fetch(TAKEN, sorted(spelt))}


async def _steps(connection: Any, wanted: list[str]) -> dict[str, set[Step]]:
    """The timed steps of these dossiers, as their sources told them."""
    steps: dict[str, set[Step]] = {code: set() for code in wanted}
    for row in await connection.fetch(STEPS, wanted, TIME_UNKNOWN):
        if not row["untimed"]:
            steps[row["code"]].add(step_of(_told_at(row["detail"]) or row["occurred_at"], row["status"]))
    return steps


def _told_at(detail: str | None) -> datetime | None:
    """The time that a source told, of an event that is recorded at another one."""
    told = msgspec.json.decode(detail).get(TOLD_AT) if detail else None
    return datetime.fromisoformat(told) if told else None


def _again(partner: Partner, line: Told, row: Any) -> LineAnswer:
    """The answer to a line whose id is in the log. Another dossier, status or time under it is another change."""
    if not line.digested:
        differs = {"dossier": row["code"] != line.code.text}
        if line.status is not None:
            differs["status"] = row["status"] != line.status
        if line.at is not None and row["kind"] != "received":
            differs["at"] = line.at not in (row["occurred_at"], _told_at(row["detail"]))
        if any(differs.values()):
            wrong = ", ".join(name for name, other in differs.items() if other)
            return rejected(line, IdReused.code, f"This id was sent before with another {wrong}.")
    again = LineAnswer(line.number, line.id, "duplicate", dossier=line.code.text, version=row["version"])
    if row["key_serial"] is not None and line.creation is not None:
        again.lookup_key = partner.keys.key(line.code, row["key_serial"])
    return again
