"""Prints what an image holds, as a CycloneDX 1.5 bill of materials: `python sbom.py requirements.lock ROOT`.

Run it with the interpreter whose packages to list. Names, versions, licences and dependencies come from the packages
themselves, hashes from the lock, the system's packages from dpkg's database below ROOT, where there is one. The same
image gives the same text: there is no time in it but SOURCE_DATE_EPOCH, and the serial number is made of the contents.
"""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from typing import Any

Component = dict[str, Any]

_NAME = re.compile(r"^([A-Za-z0-9._-]+)")
_EXTRA = re.compile(r"\bextra\s*==")


def canonical(name: str) -> str:
    """The one spelling of a package's name (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def hashes_of(lock: str) -> dict[str, list[str]]:
    """Every hash that the lock accepts, by package."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in lock.splitlines():
        if match := re.match(r"^([A-Za-z0-9._-]+)==", line):
            name = canonical(match[1])
        found.setdefault(name, []).extend(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    return found


def reference(package: Distribution) -> str:
    """The package's URL (purl), by which the document names it."""
    return f"pkg:pypi/{canonical(package.metadata['Name'])}@{package.version}"


def licence(package: Distribution) -> list[dict[str, Any]]:
    """An SPDX expression where the package gives one, else the name it gives."""
    if expression := package.metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = package.metadata.get_all("Classifier") or []
    names = [each.rpartition(" :: ")[2] for each in classifiers if each.startswith("License :: ")]
    stated = (package.metadata.get("License") or "").strip().splitlines()
    return [{"license": {"name": name}} for name in names or stated[:1]]


def component(package: Distribution, hashes: dict[str, list[str]]) -> Component:
    """One of Python's packages."""
    name = canonical(package.metadata["Name"])
    accepted = [{"alg": "SHA-256", "content": each} for each in hashes.get(name, [])]
    described: Component = {
        "type": "library",
        "bom-ref": reference(package),
        "name": name,
        "version": package.version,
        "purl": reference(package),
    }
    if summary := package.metadata.get("Summary"):
        described["description"] = summary
    if licences := licence(package):
        described["licenses"] = licences
    if accepted:
        described["externalReferences"] = [
            {"type": "distribution", "url": reference(package), "comment": "any of these", "hashes": accepted}
        ]
    return described


def needs(package: Distribution) -> Iterator[str]:
    """References of the installed packages that this one names, optional ones aside."""
    for requirement in package.requires or []:
        match = _NAME.match(requirement)
        if match and not _EXTRA.search(requirement):
            try:
                yield reference(distribution(match[1]))
            except PackageNotFoundError:
                continue  # for another platform or an older Python


def debian(root: str) -> list[Component]:
    """The packages of the system at `root`, where it is a Debian."""
    form = "${db:Status-Abbrev}\t${Package}\t${Version}\t${Architecture}\n"
    try:
        command = ["dpkg-query", f"--admindir={root}/var/lib/dpkg", "--show", f"--showformat={form}"]
        listed = subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    rows = [line.split("\t") for line in listed.stdout.decode().splitlines()]
    return [
        {
            "type": "library",
            "bom-ref": (url := f"pkg:deb/debian/{name}@{version}?arch={architecture}"),
            "name": name,
            "version": version,
            "purl": url,
        }
        for status, name, version, architecture in sorted(rows)
        if status.startswith("ii")
    ]


def bill(lock: str, root: str, moment: int) -> dict[str, Any]:
    """The whole document, of what this interpreter can import."""
    hashes = hashes_of(lock)
    packages = sorted(distributions(), key=reference)
    subject = distribution("hoso24")
    ours = component(subject, {}) | {"type": "application"}
    python = {"type": "platform", "bom-ref": "python", "name": "python", "version": platform.python_version()}
    others = [component(package, hashes) for package in packages if canonical(package.metadata["Name"]) != "hoso24"]
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"timestamp": datetime.fromtimestamp(moment, UTC).isoformat(), "component": ours},
        "components": [*others, python, *debian(root)],
        "dependencies": [{"ref": reference(each), "dependsOn": sorted(set(needs(each)))} for each in packages],
    }
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
    document["serialNumber"] = f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}"
    return document


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        text = file.read()
    json.dump(
        bill(text, sys.argv[2], int(os.environ.get("SOURCE_DATE_EPOCH", "0"))), sys.stdout, indent=1, sort_keys=True
    )
    print()
