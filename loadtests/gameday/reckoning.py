"""What is promised of the day as a whole, looked at when everything is over."""

import time

from loadtests.gameday.day import Day, Fault, Outcome
from loadtests.gameday.faults.books import nothing_altered
from loadtests.gameday.faults.postgres import changes_kept
from loadtests.gameday.promises import nothing_wrong
from loadtests.verdict import Row

# Numbers of an agency's receipts in a year.
NUMBERED = """
SELECT count(*) AS papers, max(number) AS last, count(DISTINCT code) AS dossiers
  FROM paper
 WHERE form = 'receipt'
"""


async def papers_numbered(day: Day) -> Row:
    """That receipts are numbered without a gap, one for each dossier that officers received, whatever broke."""
    async with day.stage.postgres.connected("owner") as connection:
        row = await connection.fetchrow(NUMBERED)
    return Row(
        "papers",
        f"{row['papers']} receipts of {row['dossiers']} dossiers, the last number {row['last']}",
        "as many as dossiers, and no number twice or left out",
        kept=row["papers"] > 0 and row["papers"] == row["dossiers"] == row["last"],
    )


async def _look_back(day: Day) -> list[Row]:
    seen = day.record.window(day.started)
    lag = f"its own event loop was late by {seen.lag * 1000:.0f} ms at the worst"
    told = Row("the load itself", lag, "told, so that it is not taken for the service's", kept=True)
    partners = [] if day.judge_partners is None else [await day.judge_partners()]
    papers = await papers_numbered(day)
    return [await changes_kept(day), nothing_wrong(seen), *partners, papers, await nothing_altered(day), told]


WHOLE_DAY = Fault(
    "whole-day",
    "The whole day",
    "Nothing acknowledged is lost or altered, no answer was wrong, and partners were told all.",
    _look_back,
)


async def reckoning(day: Day) -> Outcome:
    """The outcome of the whole day; asked for when the last fault is over and everything is well."""
    outcome = Outcome(WHOLE_DAY, day.started)
    outcome.rows = await WHOLE_DAY.act(day)
    outcome.ended = time.monotonic()
    return outcome
