"""Programs that tests run and that not every machine has: what each is for, and how to get it.

Tests ask for a program here and nowhere else. Where it is missing they are skipped, and the end of the run lists what
was left out and why. With CI set, a test that would be skipped fails.
"""

import os
import shutil
import sys
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
FETCHED = ROOT / ".programs"
"""What tests/fetch_programs.py has fetched; its `bin` comes before PATH, since it holds only what PATH lacks."""
BY_MAKE = "make test, which fetches it"


@dataclass(frozen=True)
class Program:
    """`names`: other names to look for. `get`: Debian package, or empty when it is fetched without root."""

    use: str
    package: str = ""
    names: tuple[str, ...] = ()

    @property
    def get(self) -> str:
        return f"apt-get install {self.package}" if self.package else BY_MAKE


PROGRAMS = {
    "chromium": Program(
        "pages in a browser", "chromium", ("chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    ),
    "curl": Program("compressed pages; the restore runbook, command by command", "curl"),
    "haproxy": Program("lookups behind a load balancer", "haproxy"),
    "kubectl": Program("manifests as a cluster sees them"),
    "node": Program("custom resources against their operators' schemas"),
    "npm": Program("axe, and the operators' schemas"),
    "pdftotext": Program("what a PDF reader shows of forged papers", "poppler-utils"),
    "openssl": Program("certificates of the tests' own", "openssl"),
    "pgbouncer": Program("PostgreSQL behind a pooler", "pgbouncer"),
    "postgres": Program("PostgreSQL with TLS", "postgresql"),
    "prometheus": Program("dashboards with data, alerts of a game day", "prometheus"),
    "promtool": Program("which alerts fire when", "prometheus"),
    "redis-cli": Program("start scripts of the Redis pods, with TLS", "redis-server"),
    "redis-server": Program("Redis and Sentinel with TLS", "redis-server"),
}

NPM_PACKAGES = {
    "crds": "custom resources against their operators' schemas",
    "pages": "axe, which reads pages as assistive technology does",
}
"""Folders of .ci with npm packages that tests read, and what for."""

ALWAYS_THERE = {"bash", "getent", "git", "gzip", "mount", "sh", "sleep", "true", "umount"}
"""Programs that tests may run without asking: a bare Debian with make and git has them."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="not run as root, which alone can give up rights and mount")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="not Linux, which alone has all of 127.0.0.0/8")


def find(name: str, *places: str) -> str | None:
    """The path of a program, looked for in these folders first; None when it is missing."""
    names = (name, *PROGRAMS[name].names)
    path = os.pathsep.join((str(FETCHED / "bin"), *places, os.environ.get("PATH", os.defpath), "/usr/sbin"))
    return next(filter(None, (shutil.which(each, path=path) for each in names)), None)


def program(name: str, *places: str) -> str:
    """The path of a program, looked for in these folders first; skips the test when it is missing."""
    found = find(name, *places)
    if found is None:
        leave_out(f"{name} is missing", PROGRAMS[name].use, PROGRAMS[name].get)
    return found


def npm_packages(folder: str) -> Path:
    """The node_modules of `.ci/<folder>`; skips the test when they are not installed."""
    found = ROOT / ".ci" / folder / "node_modules"
    if not found.is_dir():
        leave_out(f"npm packages of .ci/{folder} are missing", NPM_PACKAGES[folder], BY_MAKE)
    return found


def leave_out(reason: str, use: str, get: str) -> NoReturn:
    """Skip this test. `use`: what it tries, a noun; `get`: what would make it run."""
    pytest.skip(f"{reason}: {use} ({get})")


# -- what pytest calls; tests/conftest.py imports it ------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {_reason(report)}\nCI leaves nothing out: .ci/run has to install it."
    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reasons = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", []))
    if reasons:
        terminalreporter.section(f"left out: {reasons.total()} tests")
        for reason, count in reasons.most_common():
            terminalreporter.line(f"{count:5}  {reason}")


def _reason(report: pytest.TestReport) -> str:
    where_and_why = report.longrepr
    return where_and_why[2].removeprefix("Skipped: ") if isinstance(where_and_why, tuple) else str(where_and_why)
