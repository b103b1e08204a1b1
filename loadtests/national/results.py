"""The one table: a line for each thing measured, a column for each step, written as RESULTS.md."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from loadtests.national import findings
from loadtests.national.findings import Step
from loadtests.national.throughput import NAMES

MOST_BUFFERS = 1.3
"""How many times the buffers of the first step a cold lookup may touch."""

HEAD = """\
# A year of the whole country

Written by `make national` (`loadtests/national`); do not edit. How to run it, and what each line means, is said in
[the README of the load tests](../README.md#a-year-of-the-whole-country).
"""

READING = """\
Counts, sizes and buffers are exact whatever else the machine does; times and rates are of a machine that others may
have used, as the conditions say. Processor time for each answer is what the capacity model is fed with. "On disk"
means that Postgres was started anew and its files put out of the kernel's page cache; what the host below keeps in
memory is beyond that. The parts come in the worst order there is: each covers the whole year.
"""

Line = tuple[str, Callable[[Step], str]]


def faults(steps: Sequence[Step]) -> list[str]:
    """What is not as it has to be, a sentence each."""
    found = []
    for step in steps:
        growth = step.cost.mean / steps[0].cost.mean
        if growth > MOST_BUFFERS:
            found.append(f"{step.dossiers:,}: a cold lookup touches {growth:.2f} times the buffers of the first step.")
        if step.cost.sequential:
            found.append(f"{step.dossiers:,}: {step.cost.sequential} statements read a whole partition.")
        found += [f"{step.dossiers:,}: {run.errors:,} errors, {name}." for name, run in step.runs.items() if run.errors]
    return found


def write(page: Path, figures: Path, steps: Sequence[Step]) -> None:
    """Write the page, and the figures it is made of."""
    findings.write(figures, list(steps))
    page.write_text(text(steps), "utf-8")


def text(steps: Sequence[Step]) -> str:
    """The page."""
    columns = _columns(steps)
    lines = [columns, ["---", *["---:"] * len(steps)], *_rows(steps)]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    verdict = "".join(f"- {fault}\n" for fault in faults(steps)) or _kept(steps)
    parts = [HEAD, table, verdict, READING, *(_conditions(step) for step in steps)]
    return "\n".join(parts)


def _kept(steps: Sequence[Step]) -> str:
    if len(steps) < 2:
        return "There is nothing yet to compare the buffers of a cold lookup with.\n"
    most = max(step.cost.mean for step in steps) / steps[0].cost.mean
    return (
        f"A cold lookup touches at most {most:.2f} times the buffers it touches at {steps[0].dossiers:,} dossiers; "
        f"{MOST_BUFFERS} are allowed.\n"
    )


def _conditions(step: Step) -> str:
    return f"## Conditions at {step.dossiers:,}\n\n" + "".join(
        f"- {name}: {value}\n" for name, value in step.conditions.items()
    )


def _columns(steps: Sequence[Step]) -> list[str]:
    return ["dossiers", *(f"{step.dossiers:,}" for step in steps)]


def _rows(steps: Sequence[Step]) -> Iterator[list[str]]:
    for title, value in _lines(steps):
        yield [title, *(value(step) for step in steps)]


def _lines(steps: Sequence[Step]) -> Iterator[Line]:
    yield "events for each dossier", lambda step: f"{step.events / step.relations['dossier'].rows:.2f}"
    yield "**load**: dossiers added", lambda step: f"{step.loading.added:,}"
    yield "minutes importing", lambda step: f"{step.loading.seconds / 60:,.1f}"
    yield "dossiers/s", lambda step: f"{step.loading.added / step.loading.seconds:,.0f}"
    yield "log (WAL), bytes for each dossier", lambda step: f"{step.loading.wal_bytes / step.loading.added:,.0f}"
    yield "**size**: database", lambda step: size(step.database_bytes)
    yield "bytes for each dossier", lambda step: f"{step.database_bytes / step.dossiers:,.0f}"
    for name in dict.fromkeys(name for step in steps for name in step.relations):
        yield from _of_relation(name, list(dict.fromkeys(i for step in steps for i in step.relations[name].indexes)))
    yield "**a cold lookup**: buffers touched, mean", lambda step: f"{step.cost.mean:.2f}"
    yield "of the first step", lambda step: f"{step.cost.mean / steps[0].cost.mean:.2f}"
    yield "least and most", lambda step: f"{step.cost.least} – {step.cost.most}"
    yield "of the dossier's index and table", lambda step: f"{step.cost.of_dossier:.2f}"
    yield "the same for each code when 64 are asked for at once", lambda step: f"{step.cost.in_batch:.2f}"
    yield (
        "ms in Postgres, data in memory: median, p99",
        lambda step: f"{step.from_memory.median:.2f}, {step.from_memory.p99:.2f}",
    )
    yield (
        "ms in Postgres, data on disk: median, p99",
        lambda step: f"{step.from_disk.median:.2f}, {step.from_disk.p99:.2f}",
    )
    yield (
        "KiB from the disk for each, in memory and on disk",
        lambda step: f"{step.from_memory.disk_bytes / 1024:.1f}, {step.from_disk.disk_bytes / 1024:.1f}",
    )
    for name in NAMES:
        if any(name in step.runs for step in steps):
            yield from _of_runs(name)
    if any(step.redis_bytes for step in steps):
        yield "bytes in Redis for each dossier", lambda step: f"{step.redis_bytes:,.0f}"


def _of_relation(name: str, indexes: Sequence[str]) -> Iterator[Line]:
    yield f"table `{name}`", lambda step: size(step.relations[name].heap + step.relations[name].rest)
    for index in indexes:
        yield f"index `{index}`", _of_index(name, index)


def _of_index(name: str, index: str) -> Callable[[Step], str]:
    return lambda step: size(step.relations[name].indexes[index])


def _of_runs(name: str) -> Iterator[Line]:
    yield f"**{name}**: lookups/s", lambda step: _run(step, name, lambda run: f"{run.rate:,.0f}")
    yield "median, p99 in ms", lambda step: _run(step, name, lambda run: f"{run.median:.1f}, {run.p99:.1f}")
    yield (
        "µs of processor each: lookup, Postgres, Redis",
        lambda step: _run(
            step, name, lambda run: ", ".join(f"{run.cpu[part]:,.0f}" for part in ("lookup", "postgres", "redis"))
        ),
    )
    yield (
        "errors; share of a core others took",
        lambda step: _run(step, name, lambda run: f"{run.errors:,}; {run.strangers:.0%}"),
    )


def _run(step: Step, name: str, value: Callable[[findings.WrkRun], str]) -> str:
    return value(step.runs[name]) if name in step.runs else "–"


def size(count: float) -> str:
    """Bytes, as a person reads them; powers of 1,000, as disks are sold."""
    for unit, power in (("GB", 9), ("MB", 6), ("kB", 3)):
        if count >= 10**power:
            return f"{count / 10**power:,.2f} {unit}" if power == 9 else f"{count / 10**power:,.0f} {unit}"
    return f"{count:,.0f} B"
