"""Objectives and alerts, read from `slo.toml` and `alerts.toml`."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

PROMISES = Path(__file__).resolve().parents[2] / "k8s" / "components" / "monitoring"
"""The directory of the three files, which name the metrics of all processes; this package names none."""
RUNBOOKS = "/runbooks/"
"""Between where docs/ is published and a page's name. The overlay splits the links of the rules here."""


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One objective. `objective`: the share that must be good; `errors` and `total`: PromQL with $window in it."""

    name: str
    alert: str
    title: str
    objective: float
    good: str
    bad: str
    not_counted: str
    errors: str
    total: str
    least_bad: int

    def errors_in(self, window: str) -> str:
        """PromQL for the number of bad events within this window."""
        return " ".join(self.errors.replace("$window", window).split())

    def total_in(self, window: str) -> str:
        """PromQL for the number of counted events within this window."""
        return " ".join(self.total.replace("$window", window).split())

    @property
    def budget(self) -> float:
        """The share of events that may be bad."""
        return round(1 - self.objective, 10)


class Burn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A burn rate (1 spends the budget exactly in its period) and the two windows over which it is measured."""

    rate: float
    long: str
    short: str
    severity: str


class Objectives(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `slo.toml`."""

    period_days: int
    documents: str
    """The URL at which docs/ is published."""
    slo: list[Objective]
    burn: list[Burn]

    @property
    def windows(self) -> list[str]:
        """All windows, the shortest first."""
        return sorted({window for burn in self.burn for window in (burn.short, burn.long)}, key=seconds)

    @property
    def runbooks(self) -> str:
        """The URL of docs/runbooks there, to which the name of a page is appended."""
        return f"{self.documents}{RUNBOOKS}"


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A series that is recorded under this name."""

    name: str
    expr: str


class Alert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One alert: `expr` is PromQL that is true for `for` before it fires; `severity` is page or ticket."""

    name: str
    severity: str
    expr: str
    summary: str
    description: str
    # `for` is a keyword in Python.
    lasting: str = msgspec.field(name="for")


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group of alerts that are evaluated together, after the series that it records."""

    name: str
    alert: list[Alert]
    record: list[Record] = []


_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(window: str) -> int:
    """The seconds of a window as Prometheus writes it: `5m`, `1h`, `3d`."""
    return int(window[:-1]) * _SECONDS[window[-1]]


def objectives(path: Path = PROMISES / "slo.toml") -> Objectives:
    """The objectives. Raises msgspec.ValidationError for an invalid or incomplete file."""
    return msgspec.convert(_read(path), Objectives)


def alerts(path: Path = PROMISES / "alerts.toml") -> list[Group]:
    """The other alerts. Raises msgspec.ValidationError for an invalid or incomplete file."""
    return msgspec.convert(_read(path)["group"], list[Group])


def _read(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)
