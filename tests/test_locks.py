"""What is installed is what was locked: each package by its hash, from nowhere in particular, its licence known."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))
WANTED = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "requirements-dev.lock": [
        *PROJECT["project"]["dependencies"],
        *(each for extra in PROJECT["project"]["optional-dependencies"].values() for each in extra),
        *PROJECT["build-system"]["requires"],
    ],
    "requirements-bench.lock": PROJECT["dependency-groups"]["bench"],
    "requirements-programs.lock": PROJECT["dependency-groups"]["programs"],
    "requirements-audit.lock": PROJECT["dependency-groups"]["audit"],
}
"""Lock → what pyproject.toml says it has to hold, with what that needs."""

LICENCES = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CNRI-Python", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0",
    "Unlicense", "ZPL-2.1",
}  # fmt: skip
"""Those that a work under Apache-2.0 may be shipped beside; nothing under MPL-2.0 or ZPL-2.1 is changed here."""
BY_OTHER_NAMES = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}

LINE = re.compile(r"(?P<requirement>[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[a-z0-9,-]+\])?==[^\s;\\]+(?: ; [^\\\n]+?)?) \\")
HASH = re.compile(r" {4}--hash=sha256:[0-9a-f]{64}(?: \\)?")


def locked(name: str) -> dict[str, Requirement]:
    """The requirements of a lock by their names."""
    found = [LINE.fullmatch(line) for line in (ROOT / name).read_text("utf-8").splitlines()]
    requirements = [Requirement(match["requirement"]) for match in found if match]
    return {canonicalize_name(each.name): each for each in requirements}


def version(requirement: Requirement) -> str:
    (pin,) = requirement.specifier
    return pin.version


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_a_pinned_package_its_hash_or_why_it_is_there(name: str) -> None:
    hashes = 1
    for number, line in enumerate((ROOT / name).read_text("utf-8").splitlines(), 1):
        if LINE.fullmatch(line):
            assert hashes > 0, f"{name}:{number}: the package before this line has no hash"
            hashes = 0
        elif HASH.fullmatch(line):
            hashes += 1
        else:
            assert re.fullmatch(r" {4}# +[^:/]*(?:/pyproject\.toml)?.*|", line), f"{name}:{number}: {line}"
            assert "://" not in line, f"{name}:{number}"
    assert hashes > 0
    assert locked(name)


def test_every_lock_is_one_that_is_known_here() -> None:
    assert set(LOCKS) == set(WANTED)


@pytest.mark.parametrize("name", LOCKS)
def test_everything_asked_for_is_locked_in_a_version_that_was_asked_for(name: str) -> None:
    there = locked(name)
    for text in WANTED[name]:
        wanted = Requirement(text)
        assert canonicalize_name(wanted.name) in there, text
        assert wanted.specifier.contains(version(there[canonicalize_name(wanted.name)])), text


def test_what_is_tested_is_what_is_shipped() -> None:
    tested = locked("requirements-dev.lock")
    for name, shipped in locked("requirements.lock").items():
        assert str(tested[name].specifier) == str(shipped.specifier), name


def test_nothing_is_installed_without_its_hash() -> None:
    for path in (ROOT / "Makefile", ROOT / "Dockerfile", ROOT / ".ci" / "run", ROOT / "tests" / "fetch_programs.py"):
        text = path.read_text("utf-8").replace("\\\n", " ")
        for command in re.findall(r"pip\b[^\n]*?\b(?:install|download)\b[^\n]*", text):
            assert "--require-hashes" in command or "--no-deps" in command, f"{path.name}: {command}"


# -- licences ----------------------------------------------------------------------------------------------------


def licences(name: str) -> set[str]:
    """What an installed package says it is under: its expression, else its classifiers, else its free text."""
    found = importlib.metadata.metadata(name)
    for expression in found.get_all("License-Expression", []):
        return set(re.split(r" (?:AND|OR) |[()]", expression)) - {""}
    classifiers = [each.rpartition(" :: ")[2] for each in found.get_all("Classifier", []) if "OSI Approved ::" in each]
    texts = classifiers or found.get_all("License", ["none"])
    return {BY_OTHER_NAMES.get(text, text) for text in texts}


def here(requirement: Requirement) -> bool:
    return requirement.marker is None or requirement.marker.evaluate()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_installed_package_is_under_a_licence_we_know(name: str) -> None:
    found = {each: licences(each) for each, requirement in locked(name).items() if here(requirement)}
    assert {each: says for each, says in found.items() if not says <= LICENCES} == {}
    assert len(found) > 20


# -- the audit ---------------------------------------------------------------------------------------------------

SOUND = {"name": "sound", "version": "1", "vulns": []}
UNKNOWN = {"name": "strange", "version": "1", "skip_reason": "not found"}
KNOWN = {"name": "bad", "version": "1", "vulns": [{"id": "PYSEC-0000-1", "fix_versions": ["2"], "aliases": []}]}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([SOUND], 0, "1 packages asked about, 0 vulnerabilities"),
        ([SOUND, KNOWN], 1, "bad 1: PYSEC-0000-1, fixed in 2"),
        ([KNOWN, UNKNOWN], 1, "PYSEC-0000-1"),
        ([SOUND, UNKNOWN], 2, "NOT AUDITED"),
        ([], 2, "NOT AUDITED"),
        (None, 2, "could not be asked: no route"),
    ],
    ids=["sound", "vulnerable", "both", "unknown", "none", "unreachable"],
)
@pytest.mark.servers
def test_audit_that_could_not_ask_is_no_success(
    tmp_path: Path, packages: list[object] | None, code: int, said: str
) -> None:
    answer = "no JSON" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    source = tmp_path / "source.py"
    source.write_text(f"import sys\nprint({answer!r})\nprint('no route', file=sys.stderr)\n")
    environ = os.environ | {"PIP_AUDIT": f"{sys.executable} {source}"}
    audit = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py"], env=environ, capture_output=True, text=True, check=False
    )
    assert (audit.returncode, said in audit.stdout) == (code, True), audit.stdout + audit.stderr
    assert ("NOT AUDITED" in audit.stdout) is any(each is UNKNOWN for each in packages or [UNKNOWN])


@pytest.mark.parametrize("lock", sorted(ROOT.glob(".ci/*/package-lock.json")), ids=lambda path: path.parent.name)
def test_npm_lock_is_hashed_and_names_no_address(lock: Path) -> None:
    text = lock.read_text("utf-8")
    packages = {name: package for name, package in json.loads(text)["packages"].items() if name}
    assert packages
    assert [name for name, package in packages.items() if not package["integrity"].startswith("sha512-")] == []
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert "://" not in text
