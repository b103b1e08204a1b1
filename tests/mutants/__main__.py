"""Plant faults in the core, one at a time, and see which the tests notice: `make mutants SEED=2`.

A fault's tests are those of its row in core.toml which execute its line (recorded once, by a trace). They run until one
fails: those that noticed most other faults of the module for their time first, then those without servers, then the
shorter ones. What was found is kept in `.mutants/`, and a run goes on where another ended: a fault is tried again when
its module has changed, and one that survived also when tests have, or when more time is given
(`MUTANTS="--seconds 60"`) to tests left over.
"""

import argparse
import ast
import contextlib
import fnmatch
import hashlib
import itertools
import json
import multiprocessing
import re
import signal
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tests.mutants import runs
from tests.mutants.faults import Fault, faults_of, module_key

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
KEPT = ROOT / ".mutants"
ENOUGH = 0.92
SLOW = 5.0
"""Tests that take longer are left out."""
INSTANT = 0.1
"""Seconds that are added to what a test takes when what it noticed is compared by the second."""
TRACED = 3.0
"""How many times as long a test takes while it is traced; one that waits for servers less."""
RECORDING_SECONDS = 240.0
HANGS = 3.0
"""What takes this many times as long as when it was recorded hangs."""
NONE: frozenset[int] = frozenset()
UNCLEAR = {"outcome": "unclear"}
NEAR = 3
"""The files of so many of a fault's likeliest tests are collected first, and mostly alone."""


@cache
def rows() -> list[tuple[list[str], list[str]]]:
    """core.toml: patterns of modules, files of tests."""
    content = tomllib.loads((HERE / "core.toml").read_text())
    without = set(expand(content["without"]))
    return [(row["modules"], [test for test in expand(row["tests"]) if test not in without]) for row in content["core"]]


def expand(patterns: Iterable[str]) -> list[str]:
    """The files these patterns name. ValueError for a pattern that names none."""
    files: dict[str, None] = {}
    for pattern in patterns:
        braces = re.search(r"\{(.*?)\}", pattern)
        for part in braces[1].split(",") if braces else [""]:
            whole = pattern.replace(braces[0], part) if braces else pattern
            found = [path.relative_to(ROOT).as_posix() for path in sorted(ROOT.glob(whole))]
            if not found:
                raise ValueError(f"core.toml: {whole} names no file")
            files |= dict.fromkeys(found)
    return list(files)


@cache
def core() -> dict[str, list[str]]:
    """Every module of the core → the files of tests that concern it."""
    found: dict[str, list[str]] = {}
    for modules, tests in rows():
        for path in expand(modules):
            found.setdefault(path, tests)
    return {path: tests for path, tests in found.items() if tests}


@cache
def helpers() -> list[str]:
    """What tests share: modules and data."""
    files = [path for kind in ("py", "toml", "json") for path in (ROOT / "tests").rglob(f"*.{kind}")]
    found = sorted(path.relative_to(ROOT).as_posix() for path in files if not path.name.startswith("test_"))
    return [path for path in found if not path.startswith("tests/mutants/")]


@cache
def digest(*paths: str) -> str:
    return hashlib.sha256(b"\0".join((ROOT / path).read_bytes() for path in paths)).hexdigest()[:16]


def equivalents() -> dict[tuple[str, str, str, str], str]:
    """The key of each fault that no test can see → the reason."""
    entries = tomllib.loads((HERE / "equivalent.toml").read_text()).get("equivalent", [])
    return {(module_key(e["module"]), e["function"], e["line"], e["mutation"]): e["reason"] for e in entries}


def all_faults() -> list[Fault]:
    return [fault for path in core() for fault in faults_of(path, (ROOT / path).read_bytes())]


def is_a_program(fault: Fault) -> bool:
    with contextlib.suppress(SyntaxError):
        return bool(ast.parse(fault.applied((ROOT / fault.path).read_bytes())))
    return False


@cache
def mentions(name: str) -> dict[str, frozenset[int]]:
    """The lines of the core in which the name stands."""
    found: dict[str, set[int]] = defaultdict(set)
    for path in core() if name else ():
        for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
            if re.search(rf"\b{name}\b", line):
                found[path].add(number)
    return {path: frozenset(numbers) for path, numbers in found.items()}


@cache
def names_one(file: str, *names: str) -> bool:
    """Whether one of these names stands in the file."""
    return any(name and re.search(rf"\b{name}\b", (ROOT / file).read_text()) for name in names)


class Workers:
    """Processes that do jobs; the next job is chosen when one is free."""

    def __init__(self, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            ours, theirs = context.Pipe()
            process = context.Process(target=runs.work, args=(theirs, ROOT), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def do(self, jobs: Iterator[tuple[Any, dict[str, Any]]]) -> Iterator[tuple[Any, dict[str, Any], dict[str, Any]]]:
        """Each job with what came of it, in the order in which they end."""
        busy: dict[Connection, tuple[Any, dict[str, Any]]] = {}
        free = list(self._pipes)
        while True:
            while free and (job := next(jobs, None)):
                pipe = free.pop()
                pipe.send(job[1])
                busy[pipe] = job
            if not busy:
                return
            for pipe in cast(list[Connection], wait(list(busy))):
                name, sent = busy.pop(pipe)
                free.append(pipe)
                yield name, sent, pipe.recv()

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            with contextlib.suppress(OSError):
                pipe.send(None)
            process.join(20)


class Recorded:
    """What each test executes, kept by file as long as neither the product nor the file changes."""

    def __init__(self) -> None:
        self._path = KEPT / "executed.json"
        self._files: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}
        product = [p.relative_to(ROOT).as_posix() for top in ("lookup", "intake") for p in (ROOT / top).rglob("*.py")]
        self._base = digest(*sorted(product))
        self.tests: dict[str, Any] = {}
        self.left_out: list[str] = []

    def missing(self) -> list[str]:
        wanted = dict.fromkeys(test for tests in core().values() for test in tests)
        return [test for test in wanted if self._files.get(test, {}).get("of") != self._base + digest(test)]

    def job(self, file: str) -> dict[str, Any]:
        return {"files": [file], "core": list(core()), "seconds": RECORDING_SECONDS}

    def note(self, file: str, came: dict[str, Any]) -> None:
        server = {said["needs_server"] for said in came["said"] if "needs_server" in said}
        tests = {said["test"]: said | {"server": said["test"] in server} for said in came["said"] if "test" in said}
        for about in tests.values():
            about["seconds"] = round(about["seconds"] / TRACED, 3)
        self._files[file] = {"of": self._base + digest(file), "ended": came["status"] is not None, "tests": tests}
        self._path.write_text(json.dumps(self._files))

    def settle(self) -> None:
        """Sort what can be used from what is left out."""
        for file in dict.fromkeys(test for tests in core().values() for test in tests):
            if not self._files[file]["ended"]:
                self.left_out.append(f"{file}: the rest, after {RECORDING_SECONDS:.0f} s")
            for test, about in self._files[file]["tests"].items():
                if about["failed"] or about["seconds"] > SLOW:
                    why = "failed while traced" if about["failed"] else f"{about['seconds']:.0f} s"
                    self.left_out.append(f"{test} ({why})")
                else:
                    self.tests[test] = about | {"lines": {p: frozenset(n) for p, n in about["lines"].items()}}


class Run:
    """One seed's sample, and what became of each fault of it."""

    def __init__(self, options: argparse.Namespace, recorded: Recorded) -> None:
        everything = [fault for fault in all_faults() if fnmatch.fnmatch(fault.path, options.only)]
        ranked = sorted(everything, key=lambda fault: fault.rank(options.seed))
        self.sample = list(itertools.islice(filter(is_a_program, ranked), options.size))
        self.population = len(everything)
        self._seconds = options.seconds
        self._recorded = recorded
        self._path = KEPT / "results.jsonl"
        self._kills: Counter[tuple[str, str]] = Counter()
        self.results: dict[tuple[str, ...], dict[str, Any]] = {}
        self._equivalent = equivalents()
        self._noticed: set[str] = set()
        for line in self._path.read_text().splitlines() if self._path.exists() else []:
            self._take(json.loads(line))

    def _take(self, result: dict[str, Any]) -> None:
        self.results[tuple(result["key"])] = result
        if result["outcome"] == "killed" and result["by"]:
            self._kills[result["key"][0], result["by"]] += 1

    def _of(self, fault: Fault) -> dict[str, str]:
        return {"source": digest(fault.path), "tested": digest(*core()[fault.path], *helpers())}

    def result(self, fault: Fault) -> dict[str, Any] | None:
        """What is known of the fault, if it still holds."""
        if fault.key in self._equivalent:
            return {"outcome": "equivalent"}
        known, now = self.results.get(fault.key), self._of(fault)
        if known is None or known["source"] != now["source"]:
            return None
        if (
            known["outcome"] in {"survived", "unclear"}
            and known["ran"] < known["of"]
            and known["given"] < self._seconds
        ):
            return None
        return known if known["outcome"] in {"killed", "hung"} or known["tested"] == now["tested"] else None

    def jobs(self) -> Iterator[tuple[Fault, dict[str, Any]]]:
        waiting = [fault for fault in self.sample if (self.result(fault) or UNCLEAR)["outcome"] == "unclear"]
        waiting.sort(key=self._late)
        for fault in waiting:
            tests = self._tests(fault)
            if not tests:
                self._keep(fault, "not executed", "", 0, 0, 0.0)
                continue
            text = fault.applied((ROOT / fault.path).read_bytes())
            about = {"path": fault.path, "text": text, "seconds": self._seconds, "of": len(tests)}
            yield fault, about | {"stages": self._stages(tests)}

    def _late(self, fault: Fault) -> tuple[bool, bool]:
        """What survived a shorter run comes last, and before it what only tests with servers may notice."""
        survived = self.results.get(fault.key, {}).get("outcome") == "survived"
        return survived, all(self._recorded.tests[test]["server"] for test in self._tests(fault))

    def _stages(self, tests: list[str]) -> list[dict[str, Any]]:
        """The likeliest tests and what needs no server in their files, then as many others as may end in time."""
        files_near = {test.partition("::")[0] for test in tests[:NEAR]}
        near = {t for t in tests if t.partition("::")[0] in files_near and not self._recorded.tests[t]["server"]}
        near.update(tests[:NEAR])
        stages = []
        left = self._seconds
        for chosen in (True, False):
            names, expected = [], []
            for test in tests:
                if (test in near) is chosen and left > 0:
                    names.append(test)
                    expected.append(self._recorded.tests[test]["seconds"])
                    left -= expected[-1]
            files = list(dict.fromkeys(test.partition("::")[0] for test in names))
            stages.append({"files": files, "tests": names, "expected": expected})
        return [stage for stage in stages if stage["tests"]]

    def note(self, fault: Fault, job: dict[str, Any], came: dict[str, Any]) -> None:
        begun = [said["begins"] for said in came["said"] if "begins" in said]
        by = next((said["failed"] for said in came["said"] if "failed" in said), "")
        outcome = "survived" if came["status"] in {0, 2} and begun and not by else "killed"
        if came["status"] in runs.BROKEN and not by:
            outcome = "unclear"
        elif came["status"] is None and not by:
            # No test begins after three quarters of the time, so the last has had a quarter of it at least.
            last = self._recorded.tests[begun[-1]]["seconds"] if begun else self._seconds
            outcome = "hung" if self._seconds * (1 - runs.SOFT) > last * HANGS else "unclear"
            by = begun[-1] if begun else ""
        self._keep(fault, outcome, by, len(begun), job["of"], came["seconds"])

    def doubtful(self, workers: Workers) -> list[str]:
        """Of the tests that noticed a fault in this run those which fail on the unchanged tree as well."""
        failed: list[str] = []
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in sorted(self._noticed):
            by_file[test.partition("::")[0]].append(test)
        jobs = (
            (None, {"files": [f], "tests": t, "expected": [0.0] * len(t), "seconds": 600.0, "all": True})
            for f, t in by_file.items()
        )
        for _, _, came in workers.do(jobs):
            failed += [said["failed"] for said in came["said"] if "failed" in said]
        return failed

    def _keep(self, fault: Fault, outcome: str, by: str, ran: int, of: int, seconds: float) -> None:
        where = {"key": fault.key, "path": fault.path, "number": fault.number}
        what = {"outcome": outcome, "by": by, "ran": ran, "of": of, "seconds": seconds, "given": self._seconds}
        result = where | what | self._of(fault)
        with self._path.open("a") as file:
            file.write(json.dumps(result, ensure_ascii=False) + "\n")
        self._take(json.loads(json.dumps(result)))
        self._noticed |= {by} if outcome == "killed" and by else set()

    def _tests(self, fault: Fault) -> list[str]:
        """Those that execute it, the likeliest to notice first.

        What importing executes is reached by its name, in the core or in a test that needs no server, and after that by
        all that executes anything of its module; those that need servers come last. First come those in whose file its
        names stand, and those of the module's own file.
        """
        stem = module_key(fault.path).partition(":")[2]
        files = set(core()[fault.path])
        naming: Counter[str] = Counter()
        ways = [{fault.path: fault.lines}]
        if not fault.lines:
            around = fault.function.partition(".")[0]
            name = around if fault.name.startswith("__") else fault.name
            ways = [mentions(name), {fault.path: frozenset(range(10_000))}]
            naming.update(file for file in files for each in {name, around} if names_one(file, each))
            naming.update(file for file in files if Path(file).stem.removesuffix("_alone") == f"test_{stem}")
        found: dict[str, Any] = {}
        for way, reached in enumerate(ways):
            for test, about in self._recorded.tests.items():
                file = test.partition("::")[0]
                lines, last = about["lines"], about["server"] and not fault.lines
                own = Path(file).stem.removesuffix("_alone") == f"test_{stem}"
                named = 0 if about["server"] else naming[file]
                if named or (file in files and any(lines.get(path, NONE) & nos for path, nos in reached.items())):
                    kills = self._kills[fault.key[0], test] / (about["seconds"] + INSTANT)
                    found.setdefault(test, (last, -named, way, -kills, about["server"], not own, about["seconds"]))
        # Cases of one test see much the same: the first of each come first, then the second of each.
        turns: Counter[str] = Counter()
        for test in sorted(found, key=found.__getitem__):
            function = test.partition("[")[0]
            found[test] = (*found[test][:-1], turns[function], found[test][-1])
            turns[function] += 1
        return sorted(found, key=found.__getitem__)


def report(run: Run, console: Console) -> bool:
    """The table of modules and the list of survivors. Whether enough were noticed."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors: list[tuple[Fault, dict[str, Any]]] = []
    for fault in run.sample:
        if result := run.result(fault):
            counts[fault.path][result["outcome"]] += 1
            if result["outcome"] not in {"killed", "hung", "equivalent"}:
                survivors.append((fault, result))
    columns = ("killed", "hung", "survived", "not executed", "unclear", "equivalent")
    table = Table("module", *columns, "noticed", title=f"{len(run.sample)} of {run.population} possible faults")
    share = 0.0
    for path, count in [*sorted(counts.items()), ("all", sum(counts.values(), Counter()))]:
        share = (count["killed"] + count["hung"]) / max(1, count.total() - count["equivalent"])
        table.add_row(path, *(str(count[column] or "") for column in columns), f"{share:.0%}")
    console.print(table)
    console.print("hung: a test took three times as long as it should, and was ended; it counts as noticed.")
    for number, (fault, result) in enumerate(survivors, 1):
        how = f"{result['outcome']}, {result['ran']} of {result['of']} tests in {result['seconds']:.0f} s"
        console.print(f"\n{number}. {fault.path}:{fault.number} {fault.function} ({how})")
        console.print(f"   {fault.line}\n   {fault.mutation}", soft_wrap=True)
    return share >= ENOUGH


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=20.0, help="the most a fault may take")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="*", help="modules of this pattern, 'lookup/f*.py'")
    options = parser.parse_args()
    # In the background of a shell SIGINT is ignored; a worker is ended by SIGTERM.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    KEPT.mkdir(exist_ok=True)
    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False, markup=False)
    workers = Workers(options.workers)
    recorded = Recorded()
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    doubtful: list[str] = []
    with Progress(*bars, console=console) as progress:
        task = progress.add_task("What tests execute", total=None)
        for file, _, came in workers.do((file, recorded.job(file)) for file in recorded.missing()):
            recorded.note(file, came)
            progress.update(task, advance=1, total=1 + len(recorded.missing()))
        recorded.settle()
        run = Run(options, recorded)
        progress.update(task, description=f"Faults of seed {options.seed}", completed=0)
        try:
            for fault, job, came in workers.do(run.jobs()):
                run.note(fault, job, came)
                done = sum(run.result(fault) is not None for fault in run.sample)
                progress.update(task, completed=done, total=len(run.sample))
            doubtful = run.doubtful(workers)
        except KeyboardInterrupt:
            console.print("Stopped. The next call goes on here.")
    workers.close()
    enough = report(run, console)
    for tests, what in ((doubtful, "that noticed a fault fail without one"), (recorded.left_out, "are left out")):
        console.print(f"\n{len(tests)} tests {what}", *tests, sep="\n   ")
    return 0 if enough else 1


if __name__ == "__main__":
    sys.exit(main())
