"""The image: what its bill of materials says, and what the Dockerfile does not do.

Building it takes minutes and root: `make image-proof`.
"""

import functools
import json
import os
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.manifests import ROOT

LOCK = (ROOT / "requirements.lock").read_text("utf-8")


@functools.cache
def bill(seed: int) -> str:
    """The bill of materials of the interpreter that runs this."""
    command = [sys.executable, str(ROOT / "k8s/image/sbom.py"), str(ROOT / "requirements.lock"), "/"]
    environment = os.environ | {"SOURCE_DATE_EPOCH": "1700000000", "PYTHONHASHSEED": str(seed)}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bill(1))
    return found


def test_same_image_has_the_same_bill() -> None:
    assert bill(1) == bill(2)


def test_every_locked_package_is_named_with_its_version_licence_and_hashes(document: dict[str, Any]) -> None:
    named = {each["name"]: each for each in document["components"]}
    # Without those for another platform or Python, which have a marker.
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+) \\$", LOCK, re.MULTILINE))
    assert len(pins) > 20
    for package, version in pins.items():
        each = named[re.sub(r"[-_.]+", "-", package).lower()]
        assert each["version"] == version
        assert each["licenses"]
        (source,) = each["externalReferences"]
        assert {digest["content"] for digest in source["hashes"]} == hashes_in_lock(package)


def hashes_in_lock(package: str) -> set[str]:
    (entry,) = re.findall(rf"^{re.escape(package)}==.*(?:\n .*)*", LOCK, re.MULTILINE)
    return set(re.findall(r"--hash=sha256:(\w+)", entry))


def test_who_needs_whom_is_said_in_names_that_exist(document: dict[str, Any]) -> None:
    subject = document["metadata"]["component"]
    known = {subject["bom-ref"]} | {each["bom-ref"] for each in document["components"]}
    assert len(known) == len(document["components"]) + 1, "no reference twice"
    needed = {each["ref"]: each["dependsOn"] for each in document["dependencies"]}
    assert needed.keys() | {ref for refs in needed.values() for ref in refs} <= known
    direct = {ref.split("/")[1].split("@")[0] for ref in needed[subject["bom-ref"]]}
    assert {"aiohttp", "asyncpg", "redis", "uvloop"} <= direct
    assert "pytest" not in direct, "what an extra needs is not needed"


def stages() -> list[str]:
    """The Dockerfile's stages, without comments."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    return re.split(r"^FROM ", text.replace("\\\n", " "), flags=re.MULTILINE)[1:]


def test_nothing_is_run_in_the_last_stage_and_both_bases_are_arguments() -> None:
    *_, last = stages()
    assert "RUN" not in last.split()
    assert [stage.split()[0] for stage in stages()] == ["${RUNTIME_IMAGE}", "${PYTHON_IMAGE}", "running"]


def test_pip_installs_what_is_hashed_or_was_made_here() -> None:
    commands = [command for stage in stages() for command in re.split(r"&&|\n", stage) if " install " in command]
    assert len(commands) == 3
    for command in commands:
        assert ("--require-hashes" in command and "--only-binary :all:" in command) or "--no-index" in command
