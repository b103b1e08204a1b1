"""Have Lighthouse grade the pages of a running `make up`: `make lighthouse`. Nothing else should run on the machine.

Each page is loaded five times as on a middling phone with a slow line (Lighthouse's own simulation); the median counts.
Exit status: 0; 1 if a grade is below what is promised, 2 if there is nothing to grade. What is missing, Node.js and
Lighthouse, is fetched first (tests/fetch_programs.py); `make test` does not need it.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import urlopen

from lookup import code as codes
from lookup.web.layout import FORMS, KEY_COOKIE, SERVICES, STATISTICS
from ops.local.reaper import Reaper
from tests import fetch_programs
from tests.browser import chromium
from tests.programs import ROOT, find

UP = ROOT / ".hoso24" / "up.json"
LIGHTHOUSE = ROOT / ".ci" / "lighthouse" / "node_modules" / "lighthouse" / "cli" / "index.js"
RUNS = 5
TRIES = 3
PATIENCE = 120.0
"""Seconds for one run; it takes some ten."""
GRADES = ("performance", "accessibility", "best-practices")
WITH_SEO = (*GRADES, "seo")
PROMISED = 100


class Graded(NamedTuple):
    """A page: what it is, where, what it is graded for, and what a browser sends for it."""

    name: str
    url: str
    grades: tuple[str, ...]
    headers: Mapping[str, str] = {}


def pages(up: Mapping[str, Any], service: str) -> list[Graded]:
    """All that are graded, in both languages. `up`: the content of up.json; `service`: the code of one."""
    samples = {sample["status"]: sample for sample in up["samples"]}
    found = []
    for lang, form in FORMS.items():
        found += [
            Graded(f"form, {lang}", form, WITH_SEO),
            Graded(f"services, {lang}", SERVICES[lang], WITH_SEO),
            Graded(f"statistics, {lang}", STATISTICS[lang], WITH_SEO),
            Graded(f"a service, {lang}", f"{SERVICES[lang]}/{service}", WITH_SEO),
        ]
        for status in ("processing", "supplement_required"):
            path, cookie = (
                codes.parse(samples[status]["code"]).path,
                {"Cookie": f"{KEY_COOKIE}={samples[status]['key']}"},
            )
            found.append(Graded(f"{status}, {lang}", f"{form}/{path}", GRADES))
            found.append(Graded(f"{status}, {lang}, holder", f"{form}/{path}", GRADES, cookie))
    return [page._replace(url=f"{up['lookup']}{page.url}") for page in found]


def graded(page: Graded, devtools: str) -> dict[str, Any]:
    """Lighthouse's report of one load of the page; a load that the browser gave up is repeated.

    Raises OSError, ValueError with the browser's reason, subprocess.SubprocessError.
    """
    command = [
        *(str(find("node")), str(LIGHTHOUSE), page.url, "--quiet", "--output=json", "--no-enable-error-reporting"),
        *(f"--port={urlsplit(devtools).port}", f"--only-categories={','.join(page.grades)}"),
        f"--extra-headers={json.dumps(page.headers)}",
    ]
    why = ""
    for _ in range(TRIES):
        done = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
        report: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
        if report and "runtimeError" not in report:
            return report
        said = done.stderr.decode(errors="replace").split("\n")
        why = report.get("runtimeError", {}).get("message") or next(
            (line for line in said if "rror" in line), "no reason"
        )
    raise ValueError(f"{page.name} could not be loaded in {TRIES} attempts: {why}")


def medians(reports: Sequence[Mapping[str, Any]], grades: Iterable[str]) -> dict[str, int]:
    """The median grade of each category, from 0 to 100."""
    return {
        grade: round(100 * statistics.median(report["categories"][grade]["score"] or 0 for report in reports))
        for grade in grades
    }


def short(report: Mapping[str, Any], grades: Iterable[str]) -> list[str]:
    """What took points off, and what Lighthouse says of it."""
    weighed = [each["id"] for grade in grades for each in report["categories"][grade]["auditRefs"] if each["weight"]]
    audits = [report["audits"][each] for each in dict.fromkeys(weighed)]
    return [
        f"{each['title']} ({each.get('displayValue') or each['id']})"
        for each in audits
        if each["score"] is not None and each["score"] < 1
    ]


def row(name: str, found: Mapping[str, object]) -> str:
    """A line of the table."""
    return f"{name:34}" + "".join(f"{found.get(grade, ''):>16}" for grade in WITH_SEO)


def grade(wanted: Sequence[Graded], runs: int, devtools: str) -> int:
    """Grade these pages, print the table as it comes, and return how many are below what is promised."""
    print(row("", {each: each for each in WITH_SEO}), flush=True)
    below = 0
    for page in wanted:
        reports = [graded(page, devtools) for _ in range(runs)]
        found = medians(reports, page.grades)
        print(row(page.name, found), flush=True)
        if min(found.values()) < PROMISED:
            below += 1
            print("".join(f"    {line}\n" for line in short(reports[-1], page.grades)), end="", flush=True)
    promise = f"{below} below {PROMISED}" if below else "as promised"
    print(f"{len(wanted)} pages, the median of {runs}: {promise}.")
    return below


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=RUNS, help=f"loads of each page (default: {RUNS})")
    parser.add_argument("--only", default="", help="only pages whose name has this in it")
    options = parser.parse_args()
    if not UP.exists():
        print(f"There is no {UP}: run `make up` in another terminal first.", file=sys.stderr)
        sys.exit(2)
    try:
        fetch_programs.BIN.mkdir(parents=True, exist_ok=True)
        fetch_programs.node()
        fetch_programs.npm("lighthouse")
        fetch_programs.chromium()
        up = json.loads(UP.read_text("utf-8"))
        with urlopen(f"{up['lookup']}/api/v1/services") as answer:  # noqa: S310 - of up.json, this machine
            service = json.loads(answer.read())["services"][0]["code"]
        wanted = [page for page in pages(up, service) if options.only in page.name]
        with Reaper() as reaper, chromium(reaper) as devtools:
            below = grade(wanted, options.runs, devtools)
    except (fetch_programs.CannotBeHadError, OSError, ValueError, subprocess.SubprocessError) as why:
        print(f"Lighthouse cannot grade: {why}", file=sys.stderr)
        sys.exit(2)
    sys.exit(1 if below else 0)


if __name__ == "__main__":
    main()
