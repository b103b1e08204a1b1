"""The floors of the house: intake stands on lookup, lookup on ops, and nothing looks up."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = frozenset({"ops", "lookup", "intake", "tests", "loadtests", "hoso24"})
MAY_IMPORT = {
    "ops": {"ops"},
    "lookup": {"lookup", "ops"},
    "intake": {"intake", "lookup", "ops"},
    "loadtests": {"loadtests", "ops"},
}
"""Package → which of ours it may import. The command `hoso24` joins them and is imported by none."""

STARTS_SERVERS = {"ops.local"}
"""What the load may import of ops: servers to run against, and not a word of what it judges."""

READ_SIDE = {
    "lookup.web.api",
    "lookup.app",
    "lookup.upkeep.doctor",
    "lookup.reading.feed",
    "lookup.web.hotpath",
    "lookup.reading.limits",
    "lookup.reading.memory",
    "lookup.web.pages",
    "lookup.upkeep.pulse",
    "lookup.reading.reader",
    "lookup.web.service_pages",
    "lookup.upkeep.service_status",
    "lookup.reading.shedding",
    "lookup.upkeep.why",
}
"""The lookup's own machinery: intake shares its words, its schema and its cache's format, not this."""


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports and on which line, functions included; `from a import b` gives a and a.b."""
    package = path.parent.relative_to(ROOT).parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def of_ops(package: str) -> set[str]:
    """The modules of ops that a package imports."""
    modules = {module for path in sources(package) for _, module in imported(path)}
    return {".".join(module.split(".")[:2]) for module in modules if module.startswith("ops.")}


def places(package: str, forbidden: "set[str] | frozenset[str]", *, whole: bool = False) -> list[str]:
    """Where a package imports something forbidden: top-level packages, or with `whole` exact modules."""
    found = []
    for path in sources(package):
        for line, module in imported(path):
            if (module if whole else module.partition(".")[0]) in forbidden:
                found.append(f"{path.relative_to(ROOT)}:{line} imports {module}")
    return found


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_floor_imports_one_above_it(package: str) -> None:
    assert sources(package)
    assert places(package, OURS - MAY_IMPORT[package]) == []


def test_load_takes_servers_from_ops_and_nothing_that_it_judges() -> None:
    assert of_ops("loadtests") <= STARTS_SERVERS


def test_intake_shares_the_lookups_words_and_not_its_machinery() -> None:
    assert places("intake", READ_SIDE, whole=True) == []


def test_machinery_that_must_not_be_shared_is_there() -> None:
    for module in READ_SIDE:
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), module


def test_tests_of_the_whole_system_speak_http_and_import_nothing_of_ours() -> None:
    assert places("tests/system", OURS) == []


@pytest.mark.parametrize(
    ("statement", "modules"),
    [
        ("import lookup.reader", ["lookup.reading.reader"]),
        ("from lookup import reader", ["lookup", "lookup.reading.reader"]),
        ("from lookup.reader import Reader", ["lookup.reading.reader", "lookup.reading.reader.Reader"]),
        ("def f():\n    from lookup import reader as r", ["lookup", "lookup.reading.reader"]),
        ("from . import ledger", ["intake", "intake.books.ledger"]),
        ("from .ledger import Ledger", ["intake.books.ledger", "intake.books.ledger.Ledger"]),
    ],
)
def test_every_way_to_import_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, statement: str, modules: list[str]
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / "intake" / "example.py"
    path.parent.mkdir()
    path.write_text(statement)
    assert [module for _, module in imported(path)] == modules


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in sources("tests")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_every_folder_of_the_floors_is_a_package() -> None:
    """The distribution finds its packages: a folder without `__init__.py` would be missing from the image."""
    folders = {path.parent for package in ("ops", "lookup", "intake") for path in sources(package)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_what_runs_on_one_machine_only_is_not_in_the_distribution() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]["find"]
    assert find == {"include": ["lookup*", "intake*", "ops*"], "exclude": ["*.local", "*.local.*"]}
