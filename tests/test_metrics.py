"""Every metric is declared once, in a module called metrics, with words for whoever reads the graph at night."""

import ast
import re
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import prometheus_client
from click.testing import CliRunner

import intake.metrics
import lookup.metrics
import ops.observe.metrics
from hoso24 import cli
from ops.observe.metrics_page import declared
from tests.house import House, remove, until

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("ops", "lookup", "intake")
MODULES: dict[ModuleType, tuple[str, ...]] = {
    ops.observe.metrics: ("hoso24_",),
    lookup.metrics: ("lookup_",),
    intake.metrics: ("intake_", "relay_", "notary_", "webhooks_", "notices_", "desk_"),
}
"""Where metrics are declared → how their names begin."""

FINITE = {
    "service",  # the process: lookup, intake, relay, notary, webhooks, notices, desk
    "method",
    "route",  # a template, never a path
    "status",
    "dependency",
    "reason",
    "source",
    "outcome",
    "channel",
    "budget",  # a client's, of three
    "load",  # what was wanted, of three
    "rate",
    "state",  # a webhook's, of five
    "score",  # a rating's, of three
    "verdict",  # fresh or late
    *("pid", "role", "application"),  # a database session's; a series is there while its transaction is open
}
"""The labels there may be: each has a handful of values. A code, a client or an address is not among them."""

EXPLAINED_ONE_BY_ONE = FINITE - {"service", "method", "route", "status", "dependency", "pid", "role", "application"}
"""The labels whose every value is our own word, and has to be explained where the metric is declared."""

KINDS = {"Counter", "Gauge", "Histogram", "Summary", "Info", "Enum"}
DECLARED = [
    (module, next(name for name, value in vars(module).items() if value is metric), metric)
    for module in MODULES
    for metric in declared(module)
]


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def made_in(path: Path) -> list[str]:
    """The lines on which a file makes a metric with what it imported from the client library."""
    text = path.read_text("utf-8")
    if "prometheus_client" not in text:
        return []
    tree = ast.parse(text)
    theirs = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "prometheus_client"
        for alias in node.names
        if alias.name in KINDS
    }
    lines = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            by_name = isinstance(node.func, ast.Name) and node.func.id in theirs
            by_module = isinstance(node.func, ast.Attribute) and ast.unparse(node.func).startswith("prometheus_client.")
            if by_name or (by_module and ast.unparse(node.func).rpartition(".")[2] in KINDS):
                lines.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    return lines


def test_metrics_are_made_in_modules_called_metrics_only() -> None:
    elsewhere = [line for path in sources() if path.name != "metrics.py" for line in made_in(path)]
    assert elsewhere == []
    assert sum(len(made_in(path)) for path in sources() if path.name == "metrics.py") == len(DECLARED)


def test_nothing_else_stands_in_the_registry() -> None:
    registered = {metric.name for metric in prometheus_client.REGISTRY.collect()}
    ours = {prefix for prefixes in MODULES.values() for prefix in prefixes} | {"python_", "process_"}
    assert [name for name in registered if not name.startswith(tuple(ours))] == []


def test_every_metric_says_whose_it_is_what_it_counts_and_in_which_unit() -> None:
    found = []
    for module, name, metric in DECLARED:
        (described,) = metric.describe()
        words = re.findall(r"[a-z_]+", described.documentation)
        if not described.name.startswith(MODULES[module]):
            found.append(f"{described.name} is declared in {module.__name__}: it begins with {MODULES[module]}")
        if not described.documentation:
            found.append(f"{name} has no help")
        if unknown := set(metric._labelnames) - FINITE:
            found.append(f"{name} has labels {unknown}: put those with a handful of values into FINITE, and no other")
        if unexplained := set(metric._labelnames) - set(words):
            found.append(f"the help of {name} does not say what the labels {unexplained} are")
        if described.documentation.startswith(("Seconds", "Age ")) and not described.name.endswith("_seconds"):
            found.append(f"{described.name} is in seconds: its name ends with _seconds")
        if described.name.endswith(("_ms", "_milliseconds", "_minutes")):
            found.append(f"{described.name}: times are in seconds")
    assert not found, "\n".join(found)
    assert {label for _, _, metric in DECLARED for label in metric._labelnames} == FINITE


async def test_help_explains_every_word_that_a_running_house_counts_by(house: House, owner: Any) -> None:
    codes = [(await house.receive())["code"] for _ in range(2)]
    await house.move(codes[0], "processing")
    await remove(owner, codes[1])

    async def asked() -> bool:
        answers = [await house.lookup(f"/api/v1/dossiers/{code}") for code in (*codes, "G99.12.01-260101-9999")]
        await house.lookup(f"/api/v1/dossiers/{codes[0]}", **{"Hoso24-Key": "00000-00000-00000"})
        return answers[1][0] == 404

    await until(asked)
    unexplained = [
        f"{metric.name}: {label} {value}"
        for metric in prometheus_client.REGISTRY.collect()
        for sample in metric.samples
        for label, value in sample.labels.items()
        if label in EXPLAINED_ONE_BY_ONE
        and not metric.name.startswith(("python_", "process_", "hoso24_dependency_unavailable"))
        and not re.search(rf"\b{re.escape(value)}\b", metric.documentation)
    ]
    assert unexplained == []


def test_page_is_that_of_the_declarations() -> None:
    """`make metrics-page` writes it."""
    printed = CliRunner().invoke(cli, ["metrics"])
    assert printed.exit_code == 0
    assert printed.output == (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for _, name, metric in DECLARED:
        (described,) = metric.describe()
        assert f"### `{described.name}" in printed.output, name


def test_every_declared_metric_is_used() -> None:
    texts = {path: path.read_text("utf-8") for path in sources()}
    uses = {path: Counter(re.findall(r"\w+", text)) for path, text in texts.items()}
    never_moved = [
        name
        for module, name, _ in DECLARED
        if uses[Path(module.__file__ or "")][name] == 1
        and not any(name in words for path, words in uses.items() if path != Path(module.__file__ or ""))
    ]
    assert never_moved == []
