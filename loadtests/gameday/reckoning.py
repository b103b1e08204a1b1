"""What is promised of the day as a whole, looked at when everything is over."""

import time

from loadtests.gameday.day import Day, Fault, Outcome
from loadtests.verdict import Row


async def _go_over_the_books(day: Day) -> list[Row]:
    connection = await day.stage.postgres.connect("owner")
    try:
        lost = await day.books.lost(connection)
    finally:
        await connection.close()
    seen = day.record.window(day.started)
    wrong = seen.count("wrong")
    first = f", the first {lost[0]}" if lost else ""
    return [
        Row(
            "changes kept",
            f"{len(lost)} acknowledged changes are not in the log, or are in it twice{first}",
            "0",
            kept=not lost,
        ),
        Row(
            "truth",
            f"{wrong} of {seen.total:,} answers contradict the books",
            "0",
            kept=seen.total > 0 and wrong == 0,
        ),
        Row(
            "the load itself",
            f"its own event loop was late by {seen.lag * 1000:.0f} ms at the worst",
            "told, so that it is not taken for the service's",
            kept=True,
        ),
    ]


WHOLE_DAY = Fault(
    "whole-day", "The whole day", "Nothing acknowledged is lost, and no answer was wrong.", _go_over_the_books
)


async def reckoning(day: Day) -> Outcome:
    """The outcome of the whole day; asked for when the last fault is over and everything is well."""
    outcome = Outcome(WHOLE_DAY, day.started)
    outcome.rows = await WHOLE_DAY.act(day)
    outcome.ended = time.monotonic()
    return outcome
