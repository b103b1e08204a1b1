"""What can happen to the books: their notary is killed, and somebody with the owner's password alters what was written.

`hoso24 audit verify` and `hoso24 audit watch` are the judges: they know the public key, the auditor's password and the
files of the books, and nothing of the game day.
"""

import asyncio
import time
from collections.abc import Sequence

from loadtests.gameday.day import Day, Fault, NotInTime
from loadtests.gameday.promises import changes_acknowledged, none_failed, nothing_wrong, within
from loadtests.system.http_client import LOOPBACK
from loadtests.system.processes import HOSO24, finished
from loadtests.verdict import Row

GONE = (25.0, 0.0, 0.0)
"""How long there is no notary after each kill, in seconds: first for as long as the alert needs."""
ENTERED_SECONDS = 10.0
"""How long a notary may take, from its start on, to have entered everything."""
NAMED_SECONDS = 15.0
"""How long it may take to name what was altered."""
COMMAND_SECONDS = 120.0

ALTER_ROW = "UPDATE hoso24.dossier SET submitted_at = submitted_at - interval '1 day' WHERE code = $1"
PUT_ROW_BACK = "UPDATE hoso24.dossier SET submitted_at = submitted_at + interval '1 day' WHERE code = $1"
ALTER_EVENT = "UPDATE hoso24.event SET note = 'altered' WHERE code = $1 AND version = 1"
PUT_EVENT_BACK = "UPDATE hoso24.event SET note = NULL WHERE code = $1 AND version = 1"


async def verified(day: Day) -> tuple[int, Sequence[str]]:
    """What `hoso24 audit verify` said of log, rows and books: exit status and lines."""
    books = ("--books", day.stage.environ["HOSO24_BOOKS"], "--key", day.stage.books_key)
    command = (*HOSO24, "audit", "verify", *books)
    status, said = await finished(*command, environ=day.stage.operator, seconds=COMMAND_SECONDS)
    return status, said.strip().splitlines() or ["it said nothing"]


async def nothing_altered(day: Day) -> Row:
    """That log, rows and books are as they were written; what was altered on purpose has been put back."""
    status, said = await verified(day)
    return Row(
        "books", said[-1] if status == 0 else f"{'; '.join(said[:3])} …", "nothing was altered", kept=status == 0
    )


# -- the notary, killed ---------------------------------------------------------------------------------------------


async def _watched(day: Day) -> str:
    """What a witness says who keeps the newest checkpoint: nothing if it extends the one that was kept before."""
    (notary,) = day.stage.notaries.replicas
    state = day.stage.folder / "books.witnessed"
    where = ("--state", str(state), f"http://{LOOPBACK}:{notary.port}/books")
    command = (*HOSO24, "audit", "watch", "--key", day.stage.books_key, *where)
    status, said = await finished(*command, environ={}, seconds=COMMAND_SECONDS)
    return f"status {status}: {said.strip()}" if status else ""


async def _kill_the_notary(day: Day) -> list[Row]:
    began, notaries = time.monotonic(), day.stage.notaries
    before, doubts, longest = await day.entries(), [await _watched(day)], 0.0
    for gone in GONE:
        (notary,) = notaries.replicas
        entries = await day.entries()
        notary.kill()
        day.say(f"{notary.name} is dead for {gone:g} s")
        await asyncio.sleep(gone)  # this is the fault: for so long nothing is entered
        await day.crowd.submit()
        started = time.monotonic()
        await notaries.replace(notary)
        await day.entered(entries, ENTERED_SECONDS * 3)
        longest = max(longest, time.monotonic() - started)
        doubts.append(await _watched(day))
    after, doubts = await day.entries(), [doubt for doubt in doubts if doubt]
    day.figure(NOTARY_STOPPED.name, "entered_s", longest)
    seen = await day.judged(began)
    return [
        none_failed(seen),
        nothing_wrong(seen),
        changes_acknowledged(seen),
        Row(
            "checkpoints",
            doubts[0] if doubts else f"{after - before:,} entries more after {len(GONE)} kills, each extends the last",
            "they grow, and a witness finds no two that do not fit",
            kept=after > before and not doubts,
        ),
        await nothing_altered(day),
        within("entered all again", longest, ENTERED_SECONDS),
    ]


# -- the owner, tampering -------------------------------------------------------------------------------------------


async def _tamper(day: Day) -> list[Row]:
    began, entries = time.monotonic(), await day.entries()
    day.say("two dossiers of which no citizen knows are imported")
    codes = await day.crowd.import_a_day(2)
    if not codes:
        raise NotInTime("the dossiers to be altered were not imported")
    await day.entered(entries, ENTERED_SECONDS)
    row, event = codes
    day.say("the owner alters a row and an event")
    async with day.stage.postgres.connected("owner") as owner:
        altered = time.monotonic()
        await owner.execute(ALTER_ROW, row)
        await owner.execute(ALTER_EVENT, event)
        try:
            status, said = await verified(day)
            took = time.monotonic() - altered
        finally:
            await owner.execute(PUT_ROW_BACK, row)
            await owner.execute(PUT_EVENT_BACK, event)
    # A line for each restore of the day before this fault is no finding.
    findings = [line for line in said[:-1] if not line.startswith("Turn to epoch ")]
    named = {code for code in codes if any(code in finding for finding in findings)}
    others = [finding for finding in findings if row not in finding and event not in finding]
    day.figure(TAMPERED.name, "named_s", took)
    seen = await day.judged(began)
    return [
        Row(
            "altered",
            "; ".join(findings[:4]) or "nothing found",
            "the row and the event are named, and nothing else",
            kept=status == 1 and named == set(codes) and not others,
        ),
        within("named", took, NAMED_SECONDS),
        none_failed(seen),
        nothing_wrong(seen),
        await nothing_altered(day),
    ]


NOTARY_STOPPED = Fault(
    "notary-stopped",
    f"kill -9 of the notary, {len(GONE)} times, once away for {GONE[0]:g} s",
    "lookups and changes go on; all is entered once it is back; no two checkpoints that do not fit",
    _kill_the_notary,
)
TAMPERED = Fault(
    "tampered",
    "the owner alters a row and an event under load",
    "`hoso24 audit verify` names both, and nothing else",
    _tamper,
    short=True,
)
