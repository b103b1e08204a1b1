"""The runbook for a restored PostgreSQL, carried out as it stands: every command, and what it says you see."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
RUNBOOK = (ROOT / "docs" / "runbooks" / "restore.md").read_text("utf-8")
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PATIENCE = 300.0
MARK = "=== block"


def blocks() -> list[tuple[str, str]]:
    """Each block of commands with what has to be seen; '' where nothing is said."""
    found = BLOCK.findall(RUNBOOK)
    after = [*found[1:], ("sh", "")]
    return [
        (text, seen if kind == "text" else "")
        for (language, text), (kind, seen) in zip(found, after, strict=True)
        if language == "sh"
    ]


def unseen(expected: str, output: str) -> list[str]:
    """The lines that are not in the output, in that order; `…` stands for anything."""
    rest = output.splitlines()
    for n, line in enumerate(expected.splitlines()):
        pattern = re.compile(".*".join(re.escape(part) for part in line.split("…")))
        while rest and not pattern.fullmatch(rest[0].strip()):
            rest.pop(0)
        if not rest:
            return expected.splitlines()[n:]
        rest.pop(0)
    return []


@pytest.fixture
def directory() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="hoso24-restore-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


def free_ports(count: int) -> int:
    """The first of so many in a row, none of those that the system or our servers take for themselves."""
    while True:
        first = random.randrange(31_000, 32_700)
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for port in range(first, first + count):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
            return first


def carried_out(directory: Path) -> str:
    """Everything the blocks print, one after the other in one shell, which stops at the first failure."""
    script = "set -euo pipefail\n" + "".join(f"echo '{MARK} {n}'\n{text}" for n, (text, _) in enumerate(blocks()))
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("HOSO24_", "OTEL_", "PG"))}
    with (directory / "output").open("w+") as output:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=directory,
            env=clean
            | {
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "200",
                "PORT": str(free_ports(7)),
                "RUNBOOKS": str(ROOT / "docs/runbooks"),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):  # what is missing then is told with all that was there
                shell.wait(PATIENCE)
        finally:
            _end(shell)
        output.seek(0)
        return output.read()


def _end(shell: "subprocess.Popen[bytes]") -> None:
    """What a shell that failed has left running is told to stop, and waited for."""
    members = [each for each in psutil.process_iter() if _session(each.pid) == shell.pid]
    for member in members:
        member.send_signal(signal.SIGTERM)
    psutil.wait_procs(members, timeout=60)
    shell.wait()


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def test_runbook_can_be_carried_out_as_it_stands(directory: Path, program: Callable[[str], str]) -> None:
    program("curl")
    output = carried_out(directory)
    parts = re.split(rf"^{MARK} \d+\n", output, flags=re.MULTILINE)[1:]
    logs = {path.name: path.read_text("utf-8", "replace")[-3000:] for path in directory.glob("*.log")}
    missing = {n: unseen(seen, part) for n, ((_, seen), part) in enumerate(zip(blocks(), parts, strict=False))}
    assert {n: lines for n, lines in missing.items() if lines} == {}, f"{output}\n{logs}"
    assert len(parts) == len(blocks()), f"{output}\n{logs}"
    assert "NOT AS THE LOG HAS IT" not in output


def test_every_step_says_what_you_should_see() -> None:
    steps = re.split(r"^## (?=\d)", RUNBOOK, flags=re.MULTILINE)[1:]
    assert [step.partition(".")[0] for step in steps] == [str(n) for n in range(1, len(steps) + 1)]
    for step in steps:
        body = step.partition("\n## ")[0]
        assert "```sh" in body, step
        assert body.count("```text\n") == body.count("```sh\n"), step
        assert "```sh kubernetes\n" in body, "and what to do in Kubernetes"


@pytest.mark.parametrize(
    ("expected", "output", "missing"),
    [
        ("a\nb", "x\na\nb\n", []),
        ("a\nb", "b\na\n", ["b"]),
        ('{"code":"…","version":2}', '{"code":"G99","version":2}', []),
        ('{"code":"…","version":2}', '{"code":"G99","version":3}', ['{"code":"…","version":2}']),
        ("0", "10", ["0"]),
    ],
)
def test_what_is_not_seen_is_noticed(expected: str, output: str, missing: list[str]) -> None:
    assert unseen(expected, output) == missing
