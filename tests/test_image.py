"""The image: what its bill of materials says, and what the Dockerfile does not do.

Building it takes minutes and root: `make image-proof`.
"""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.manifests import ROOT

pytestmark = pytest.mark.servers

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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image's wheel holds, in a directory of its own."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE", "hoso24.py"):
        shutil.copy(ROOT / name, source)
    for floor in ("ops", "lookup", "intake"):
        shutil.copytree(ROOT / floor, source / floor, ignore=shutil.ignore_patterns("__pycache__"))
    build = "import setuptools.build_meta as backend, sys; print(backend.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(built)], cwd=source, check=True, capture_output=True)
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(built / "installed")
    return built / "installed"


AS_INSTALLED = """
import sys
# A checkout installed as editable would lend the wheel's packages what the wheel does not hold.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in f"{finder.__module__}"]
import hoso24
sys.argv[0] = "hoso24"
hoso24.main()
"""


def run_installed(installed: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOSO24_")}
    return subprocess.run(
        [sys.executable, "-c", AS_INSTALLED, *arguments],
        cwd=installed,
        env=clean | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_wheel_holds_no_servers_no_samples_no_generators_and_no_load_tests(installed: Path) -> None:
    packages = {str(path.parent.relative_to(installed)) for path in installed.rglob("*.py")}
    assert {"lookup/reading", "intake/dialects", "ops/http"} <= packages
    assert not [name for name in packages if name.endswith("local") or name.startswith(("loadtests", "tests"))]
    assert "ops/monitoring" not in packages
    for name in ("lookup/web/templates/status.html", "lookup/web/static/site.css", "lookup/schema/roles.sql"):
        assert (installed / name).is_file(), name


@pytest.mark.parametrize("arguments", [["up"], ["down"], ["demo"], ["sample", "--n", "1"]], ids=lambda words: words[0])
def test_command_that_needs_a_checkout_says_so(installed: Path, arguments: list[str]) -> None:
    done = run_installed(installed, *arguments)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: This installation holds the services only. "
        "Run this command in a checkout of the repository (`make up`).\n"
    )


@pytest.mark.parametrize("service", ["lookup", "intake", "relay", "migrate"])
def test_every_process_of_the_image_comes_as_far_as_its_settings(installed: Path, service: str) -> None:
    done = run_installed(installed, service)
    assert done.returncode != 0
    assert "is required and not set" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
