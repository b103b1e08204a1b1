"""Where a run was made and of what: a figure without them says nothing."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent


def commit(*but: str) -> str:
    """The commit this checkout is at, and whether anything but these files was changed since."""
    try:
        found = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", *(f":!{file}" for file in but))
    except (OSError, subprocess.CalledProcessError):
        return version("hoso24")
    return f"commit {found}{' with uncommitted changes' if changed else ''}"


def processor() -> str:
    """The processor by its maker's name, and how many cores there are."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        cpuinfo = ""
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.MULTILINE)
    return f"{model[1].strip() if model else platform.machine()}; {os.cpu_count()} cores"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()
