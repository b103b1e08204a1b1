"""Ours as it was at COMMIT, as a peer: its programs, on servers of its own, which its programs have made and filled.

Its schema and its records may be others by now, so it shares nothing with the present one but the machine.
"""

import dataclasses
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from loadtests.bench.servers import Contestant, ours
from loadtests.system.installation import Installation
from loadtests.system.processes import ROOT, CannotMeasure, started

COMMIT = "dab7d92"
"""The lookup before the house was put in order (2026-11-30): what every later one is measured against."""
FURNISH = """
import dataclasses, json, signal, sys
from loadtests.bench.house import furnished
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with furnished(int(sys.argv[1]), lambda _: None) as house:
    print(json.dumps(dataclasses.asdict(house), default=str), flush=True)
    signal.pause()
"""


@contextmanager
def earlier(count: int) -> Iterator[Callable[..., Contestant]]:
    """The lookup of COMMIT, given settings, on a system of its own with `count` dossiers; it lasts as the block does.

    Raises CannotMeasure where its files cannot be had, as in a clone without history.
    """
    with tempfile.TemporaryDirectory(prefix="hoso24-bench-") as name:
        tree = Path(name)
        _unpack(tree)
        log, path = tree / "furnish.log", {"PYTHONPATH": str(tree)}
        furnish = [sys.executable, "-c", FURNISH, str(count)]
        with started(furnish, core=None, cwd=tree, log=log, environ=path, output=subprocess.PIPE) as process:
            assert process.stdout is not None
            said = process.stdout.readline()  # empty when it has ended
            if not said:
                raise CannotMeasure(f"The system of {COMMIT} did not start: {log.read_text('utf-8')[-500:]}")
            fields: dict[str, Any] = json.loads(said)
            system = Installation(**fields | {"folder": Path(fields["folder"])})
            yield lambda **settings: dataclasses.replace(ours(system, **path, **settings), name=COMMIT)


def _unpack(tree: Path) -> None:
    archive = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode:
        raise CannotMeasure(f"Commit {COMMIT} is not here ({archive.stderr.decode().strip()}): git fetch --unshallow")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(tree, filter="data")
