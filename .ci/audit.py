"""Known vulnerabilities of everything the locks name. A package that no source knows does not count as sound.

pip-audit itself ends with success where its source knows none of the packages, as it does when a mirror stands in
between. So its findings are counted here: 0 all were asked about and none is known to be vulnerable, 1 some are,
2 some, or all, could not be asked about.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = sorted(ROOT.glob("requirements*.lock"))
COMMAND = os.environ.get("PIP_AUDIT", f"{sys.executable} -m pip_audit").split()


def main() -> int:
    """Ask about every lock in turn; the exit code."""
    outcomes = [outcome(lock) for lock in LOCKS]
    vulnerable = any(vulnerable for vulnerable, _ in outcomes)
    all_asked = bool(outcomes) and all(asked for _, asked in outcomes)
    if not all_asked:
        print("NOT AUDITED: not every package could be asked about. This is no statement that they are sound.")
    return 1 if vulnerable else 0 if all_asked else 2


def outcome(lock: Path) -> tuple[bool, bool]:
    """Whether anything in a lock is known to be vulnerable, and whether all of it was asked about; prints which."""
    options = ["--format", "json", "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", "15"]
    asked = subprocess.run(
        [*COMMAND, *options, *sys.argv[1:], "-r", str(lock)], capture_output=True, text=True, check=False
    )
    try:
        packages = json.loads(asked.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(f"{lock.name}: the source of vulnerabilities could not be asked: {_last_line(asked.stderr)}")
        return False, False
    skipped = [package["name"] for package in packages if "skip_reason" in package]
    vulnerable = [(package, each) for package in packages for each in package.get("vulns", ())]
    for package, each in vulnerable:
        fixed = ", ".join(each["fix_versions"]) or "no version yet"
        print(f"{lock.name}: {package['name']} {package['version']}: {each['id']}, fixed in {fixed}")
    print(f"{lock.name}: {len(packages) - len(skipped)} packages asked about, {len(vulnerable)} vulnerabilities")
    if skipped or not packages:
        print(f"{lock.name}: {len(skipped)} packages the source does not know: {', '.join(skipped)}")
    return bool(vulnerable), bool(packages) and not skipped


def _last_line(text: str) -> str:
    return ([line for line in text.splitlines() if line.strip()] or ["it said nothing"])[-1][:300]


if __name__ == "__main__":
    sys.exit(main())
