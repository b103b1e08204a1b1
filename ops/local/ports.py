"""Free ports on the loopback address, claimed so that concurrently starting processes get different ones."""

import errno
import fcntl
import os
import socket
import tempfile
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ops.local.cannot_start import CannotStart

LOOPBACK = "127.0.0.1"


class _Claims:
    """The ports claimed by this process; other processes of this account do not get them.

    Each is a locked byte of one file, until the process ends. If the file cannot be opened, nothing is claimed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, port: int) -> bool:
        """Claim a port; False while another process has it. Repeating a claim is allowed."""
        try:
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError as error:
            return self._descriptor is None or error.errno not in (errno.EACCES, errno.EAGAIN)
        return True

    def give_back(self, port: int) -> None:
        with suppress(OSError):
            if self._descriptor is not None:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, port)

    def give_all_back(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


_claims = _Claims(Path(tempfile.gettempdir()) / f"hoso24-ports-{os.geteuid()}")


handed_out: set[int] = set()
"""Ports that `free_port` gave in this process, whether a server uses them by now or not."""


def free_port(preferred: int, host: str = LOOPBACK, *, avoid: Collection[int] = ()) -> int:
    """The preferred port, or the next higher one that is free, not in `avoid` and not claimed by another process.

    The port stays claimed until this process ends, calls `give_ports_back`, or asks for it again while a server uses
    it. Raises CannotStart when there is none.
    """
    for port in range(preferred, 65536):
        if port not in avoid and _claims.take(port):
            if _is_free(host, port):
                handed_out.add(port)
                return port
            _claims.give_back(port)
    raise CannotStart(f"No port from {preferred} up is free on {host}.")


def give_ports_back() -> None:
    """Release all ports that this process has claimed."""
    _claims.give_all_back()


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: closing connections of a run that has just ended do not block a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    # macOS allows binding a port of a server that listens on all addresses.
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((LOOPBACK, port)) != 0
