"""The account a local server runs as, and files that only their owner can read.

Started as root, a server runs as an unprivileged account; otherwise as the caller.
"""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ops.local.cannot_start import CannotStart

# Servers do not inherit the caller's environment: a stray PGPORT or TZ would change their behaviour.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """The account of a server that is started by root."""

    name: str
    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> "Account | None":
        """An unprivileged account; None unless we are root. Raises CannotStart when there is none."""
        if os.geteuid() != 0:
            return None
        for name in ("nobody", "daemon", "postgres"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                # On macOS the uid of this account is negative, and no process can run with it.
                if entry.pw_uid > 0:
                    return cls(name, entry.pw_uid, entry.pw_gid)
        raise CannotStart("Root needs an account to run servers as: create `daemon`, or start as another user.")

    def can_enter(self, directory: Path) -> bool:
        """Whether this account can search the directory; tested as that account, because ACLs count too."""
        # The directory is passed as $0, so that the shell does not interpret its name.
        return succeeds(["/bin/sh", "-c", 'test -x "$0"', str(directory)], self)


def identity(account: Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def succeeds(command: Sequence[str], account: Account | None) -> bool:
    try:
        outcome = subprocess.run(
            command, cwd="/", env=ENVIRONMENT, capture_output=True, check=False, **identity(account)
        )
    except OSError:
        return False
    return outcome.returncode == 0


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replaces a file atomically; only its owner can read it at any moment."""
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            if account is not None:
                os.fchown(descriptor, account.uid, account.gid)
            file.write(text)
        os.replace(fresh, path)
    except BaseException:
        os.unlink(fresh)
        raise


def private(path: str, flags: int) -> int:
    """An opener for files that only their owner can read."""
    return os.open(path, flags, 0o600)


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
