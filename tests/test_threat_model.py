"""The threat model names tests and places that exist; and the tests of threats that have no other home."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "threat-model.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = [[cell.strip(" |") for cell in row] for row in ROWS if row[0] != "threat"]
CODE = [path for package in ("ops", "lookup", "intake") for path in sorted((ROOT / package).rglob("*.py"))]


def defined(path: Path) -> set[str]:
    """Every name a file defines: classes, functions, methods and constants."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
}


def test_every_threat_has_a_control_and_a_test_that_exist() -> None:
    found = [f"{row}: a row has a threat, a control and tests" for row in ROWS if len(row) != 3]
    for threat, control, tests in (row for row in ROWS if len(row) == 3):
        named = re.findall(r"`(test_[a-z0-9_]+)`", tests)
        if not control or not re.fullmatch(r"(`test_[a-z0-9_]+`(, )?)+", tests):
            found.append(f"{threat}: has no control, or no list of tests: {tests}")
        found += [f"{threat}: there is no test {name}" for name in named if name not in TESTS]
        for place in re.findall(r"`([^`]*(?:\.py:\w+|\.sql|\.yaml|Dockerfile))`", control):
            path, _, name = place.partition(":")
            if not (ROOT / path).is_file() or (name and name not in defined(ROOT / path)):
                found.append(f"{threat}: there is no {place}")
        if re.search(r"`[a-z_/]+\.py`", control):
            found.append(f"{threat}: a place in the code is a file and a name in it")
    assert not found, "\n".join(found)


def test_threat_model_is_linked() -> None:
    assert ROWS
    for document in ("README.md", "SECURITY.md"):
        assert "docs/threat-model.md" in (ROOT / document).read_text("utf-8"), document


# -- threats whose control is that something is not there --------------------------------------------------------


def trees_with(words: set[str]) -> Iterator[tuple[Path, ast.Module]]:
    """The code that has one of these words in it. Reading a file is a hundred times as fast as parsing it."""
    for path in CODE:
        text = path.read_text("utf-8")
        if any(word in text for word in words):
            yield path, ast.parse(text)


EXECUTES = {"eval", "exec", "compile", "__import__"}
UNPACKS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def test_nothing_unpickles_or_evaluates() -> None:
    for path, tree in trees_with(EXECUTES | UNPACKS):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                assert not UNPACKS & {module.partition(".")[0] for module in modules}, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in EXECUTES, f"{path}:{node.lineno}"


ASKS = {"fetch", "fetchrow", "fetchval", "execute", "executemany", "cursor", "prepare"}


def made(statement: ast.expr) -> bool:
    """Whether this statement is put together where it is sent, of anything but constants and whole numbers."""
    if isinstance(statement, ast.JoinedStr):
        parts = [part for part in statement.values if isinstance(part, ast.FormattedValue)]
        return not all(_is_constant(part.value) or _is_whole_number(part) for part in parts)
    if isinstance(statement, ast.Call) and isinstance(statement.func, ast.Attribute):
        return statement.func.attr in ("format", "join", "replace")
    return isinstance(statement, ast.BinOp)


def _is_constant(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id.isupper()


def _is_whole_number(part: ast.FormattedValue) -> bool:
    return part.format_spec is not None and ast.unparse(part.format_spec) == "f'd'"


def test_statements_are_put_together_from_constants() -> None:
    """What is sent is a constant, or what PostgreSQL itself has quoted."""
    sent = [
        (path, node.args[0])
        for path, tree in trees_with(ASKS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKS and node.args
    ]
    assert len(sent) > 30
    assert [f"{path.name}: {ast.unparse(statement)}" for path, statement in sent if made(statement)] == []
    assert all(
        made(ast.parse(text, mode="eval").body) for text in ("f'SELECT {code}'", "'SELECT ' + code", "A.format(b)")
    )


@pytest.mark.servers
def test_hashes_are_seeded_anew_in_every_process() -> None:
    """Whoever cannot know the seed cannot choose codes that collide; nothing we start fixes it."""
    command = [sys.executable, "-c", "print(hash('G99.01.01-261126-0001'))"]
    hashes = {subprocess.run(command, capture_output=True, text=True, check=True, env={}).stdout for _ in range(3)}
    assert len(hashes) > 1
    # Where the image is built the seed is fixed, so that it comes out the same twice; what runs is the last stage.
    assert "PYTHONHASHSEED" not in (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2]
    for path in (
        ROOT / "Makefile",
        *(ROOT / "k8s").rglob("*.yaml"),
        *(ROOT / "k8s").rglob("*.env"),
    ):
        assert "PYTHONHASHSEED" not in path.read_text("utf-8"), path
