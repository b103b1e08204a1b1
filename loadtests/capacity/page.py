"""docs/capacity.md."""

from collections.abc import Iterator, Sequence

from loadtests.bench.usage import DISTURBED
from loadtests.capacity import model
from loadtests.capacity.figures import Figures
from loadtests.capacity.model import CHANGES, LOOKUPS, Away, Part
from loadtests.national.results import size

MISSING = "not measured yet"

HEAD = """\
# Capacity and availability

Made by `make capacity-page` (`loadtests/capacity`); do not edit. Every figure is measured, with the place where it
stands, or assumed in [assumptions.toml](../loadtests/capacity/assumptions.toml), with its reason. Machines differ: what
carries over is the arithmetic, with figures of your own in the place of these.
"""

COLD = """\
Every lookup is reckoned as the dearest there is: a code nobody has asked for, so nothing in memory or in Redis, one
read of Postgres and one fill of Redis. On an ordinary day most are cheaper; in the hour to survive none is.
"""

AVAILABILITY = """\
## Availability

For each fault: how often it is assumed to come, times how long it keeps anybody from an answer. A minute in which half
of the lookups fail counts as half a minute, because the objective counts lookups. What the game day
(`make gameday`) measures begins when somebody or something acts; the time to notice is assumed and added, with as
large a share of the lookups failing in it.
"""


def page(figures: Figures) -> str:
    """The whole page."""
    return "\n".join([HEAD, _comes(figures), _takes(figures), _gives_way(figures), _room(figures), _away(figures)])


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int]) -> str:
    rule = ["---:" if n in numbers else "---" for n in range(len(columns))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (columns, rule, *rows))


# -- what comes ------------------------------------------------------------------------------------------


def _comes(figures: Figures) -> str:
    year, rush = figures.assumed.year, figures.assumed.rush
    day, most = model.ordinary(figures.assumed), model.rush(figures.assumed)
    rows = [
        ("dossiers a year", f"{year.dossiers:,}", "of 2019, the last year published"),
        ("lookups a year", f"{day.a_year:,.0f}", f"{year.lookups_each:g} for each dossier, assumed"),
        (
            "lookups on a working day",
            f"{day.a_day:,.0f}",
            f"{year.busy_share:.0%} of them on {year.busy_days} working days",
        ),
        ("in its fullest hour", f"{day.peak_hour:,.0f}", f"{year.peak_hour_share:.0%} of the day's"),
        (
            "**an ordinary day's peak**, lookups/s",
            f"**{day.peak:,.0f}**",
            f"the fullest minute has {year.peak_minute:g} times the mean of its hour",
        ),
        (
            "**the hour to survive**, lookups/s",
            f"**{most:,.0f}**",
            f"{rush.people:,} insured people look once, each at a code of their own, within {rush.hours:g} hour",
        ),
    ]
    return "## What comes\n\n" + _table(("what", "figure", "from"), rows, (1,))


# -- what it takes ---------------------------------------------------------------------------------------


def _takes(figures: Figures) -> str:
    parts = model.parts(figures)
    day, most = model.ordinary(figures.assumed).peak, model.rush(figures.assumed)
    tenfold = figures.assumed.rush.tenfold
    rates = (day, most, tenfold * most)
    columns = ("part", "each lookup takes", *(f"at {rate:,.0f}/s" for rate in rates), "there is", "measured by")
    rows = [
        (
            part.name,
            _each(part),
            *(_amount(part, rate) for rate in rates),
            part.has,
            f"{part.measured}; no fuller than {part.full:.0%}",
        )
        for part in parts
    ]
    return "\n".join(
        [
            "## What it takes",
            "",
            COLD,
            _table(columns, rows, (1, 2, 3, 4)),
            *_absent(figures),
            *_cheaper(figures),
            *_tenfold(parts, tenfold * most),
        ]
    )


def _each(part: Part) -> str:
    return f"{part.each * 1e6:,.0f} µs" if part.unit == "core" else f"{part.each:.2f} {part.unit}s"


def _amount(part: Part, rate: float) -> str:
    needs = part.needs(rate)
    return (
        f"{needs:,.2g} cores" if part.unit == "core" and needs < 10 else f"{needs:,.0f} {part.unit}s{_a_second(part)}"
    )


def _a_second(part: Part) -> str:
    return "" if part.unit == "core" else "/s"


def _absent(figures: Figures) -> Iterator[str]:
    if figures.step is None:
        yield f"Postgres and Redis: {MISSING} (`make national`).\n"
    else:
        strangers = max(run.strangers for run in figures.step.runs.values())
        if strangers > DISTURBED:
            yield (
                f"Beware: while `make national` measured, others took up to {strangers:.0%} of a core. Work "
                "that is interrupted all the time takes more of a processor than it does undisturbed.\n"
            )
    if figures.handshakes is None:
        yield f"TLS at the edge: {MISSING} (`make capacity-page CAPACITY=--handshakes`).\n"
    else:
        key = figures.handshakes.microseconds
        told = ", ".join(f"{microseconds:,.0f} µs with {name}" for name, microseconds in key.items())
        yield f"A handshake takes a server {told}; {figures.handshakes.conditions['load']}.\n"


def _cheaper(figures: Figures) -> Iterator[str]:
    """What the same process does when it is not asked for the dearest."""
    warm, hot = (1e6 * figures.bench[case].each for case in (model.WARM, model.HOT))
    yield (
        f"An answer from Redis takes a lookup process {warm:,.0f} µs, and one from its own memory {hot:,.0f} "
        "([RESULTS.md](../loadtests/bench/RESULTS.md)).\n"
    )


def _tenfold(parts: Sequence[Part], rate: float) -> Iterator[str]:
    short = [part for part in parts if part.carries < rate]
    if short:
        names = "; ".join(f"{part.name}, {rate / part.carries:,.1f} times what there is" for part in short)
        yield f"**Ten times the hour to survive** ({rate:,.0f}/s) would fill entirely, and more: {names}.\n"


# -- what gives way --------------------------------------------------------------------------------------


def _gives_way(figures: Figures) -> str:
    most = model.rush(figures.assumed)
    rows = [
        (
            f"{n}. {part.name}",
            f"{part.carries:,.0f}/s",
            f"{part.carries * part.full:,.0f}/s",
            f"{part.carries / most:.1f}",
            part.turn,
        )
        for n, part in enumerate(model.parts(figures), 1)
    ]
    columns = ("what gives way", "full at", "as full as it may be", f"full, of {most:,.0f}/s", "what to turn next")
    body = _table(columns, rows, (1, 2, 3)) if rows else f"{MISSING.capitalize()}.\n"
    return "## What breaks first\n\nWith what production has today, the first to give way in front.\n\n" + body


def _room(figures: Figures) -> str:
    room, production = model.room(figures), figures.production
    if room is None or figures.step is None:
        return f"## Room\n\n{MISSING.capitalize()} (`make national`).\n"
    years = production.postgres_disk / room.a_year
    rows = [
        (
            "disk: a year's dossiers with their events",
            size(room.a_year),
            f"{size(production.postgres_disk)} a server: full after {years:.1f} years; `storage.size` can be raised",
        ),
        (
            "memory: what lookups read of a year",
            size(room.looked_up),
            f"{size(production.postgres_memory)} a server; what is not in memory is a read of the disk",
        ),
        (
            "log: a day's dossiers",
            size(room.log_a_day),
            "as the import writes it, in the worst order; archived and sent to two standbys",
        ),
        (
            "Redis: everybody's dossier at once",
            size(room.in_redis),
            f"{size(production.redis_memory)}: full after {room.seconds_to_fill_redis:,.0f} s of the hour to survive; "
            "then the longest unused leave (`volatile-lru`), which harms nobody who looks once",
        ),
    ]
    source = f"From `make national` at {figures.step.dossiers:,} dossiers, {_events(figures)} events each.\n"
    return "## Room\n\n" + _table(("what", "takes", "there is"), rows, (1,)) + "\n" + source


def _events(figures: Figures) -> str:
    assert figures.step is not None
    return f"{figures.step.events / figures.step.relations['dossier'].rows:.1f}"


# -- availability ----------------------------------------------------------------------------------------


def _away(figures: Figures) -> str:
    found = model.away(figures.assumed, figures.game_day)
    rows = [
        (
            each.fault.name,
            f"{each.fault.per_year:g}",
            each.fault.why,
            _kept(each),
            f"{each.fault.notice:,.0f} s",
            _minutes(each.lookups),
            _minutes(each.changes),
        )
        for each in found
    ]
    rows.append(("**together**, as far as measured", "", "", "", "", *_together(found)))
    rows.append(("**what the objectives allow**", "", "", "", "", *_allowed(figures)))
    columns = ("fault", "a year", "why so often", "game day", "to notice", "min a year, lookups", "min a year, changes")
    return "\n".join([AVAILABILITY, _table(columns, rows, (1, 4, 5, 6)), *_unmeasured(figures, found)])


def _kept(each: Away) -> str:
    if each.seen is None:
        return MISSING
    return f"{'kept' if each.seen.kept else '**not kept**'}, settled after {each.seen.seconds:,.0f} s"


def _minutes(count: float | None) -> str:
    return "–" if count is None else f"{count:,.2f}"


def _together(found: Sequence[Away]) -> tuple[str, str]:
    if not any(each.seen for each in found):
        return "–", "–"
    lookups, changes = (model.minutes([getattr(each, name) for each in found]) for name in ("lookups", "changes"))
    return f"**{lookups:,.1f}**", f"**{changes:,.1f}**"


def _allowed(figures: Figures) -> tuple[str, str]:
    lookups, changes = (figures.promised[name] for name in (LOOKUPS, CHANGES))
    return (
        f"**{model.allowed(lookups):,.0f}** ({lookups:.2%})",
        f"**{model.allowed(changes):,.0f}** ({changes:.2%})",
    )


def _unmeasured(figures: Figures, found: Sequence[Away]) -> Iterator[str]:
    if figures.game_day is None:
        yield (
            "No full game day has been run, or none was handed in: every time above is missing, and nothing is put in "
            'its place. `make gameday`, then `make capacity-page CAPACITY="--gameday FOLDER"`.\n'
        )
        return
    yield f"From the game day of {figures.game_day.date}, {figures.game_day.commit}.\n"
    for what, names in (
        ("Missing in it, and in the sums", [each.fault.name for each in found if each.seen is None]),
        ("No lookup was asked during", [each.fault.name for each in found if each.seen and each.lookups is None]),
        ("No change was tried during", [each.fault.name for each in found if each.seen and each.changes is None]),
        ("Run, but nobody has said how often they come", model.unforeseen(figures.assumed, figures.game_day)),
    ):
        if names:
            yield f"{what}: {', '.join(names)}.\n"
