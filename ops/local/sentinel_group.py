"""A primary and replicas with a shared password, and Sentinels that monitor them: for local runs and tests."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ops.local.accounts import write_private
from ops.local.ports import LOOPBACK
from ops.local.valkey import ValkeyServer

PASSWORD = "shared-by-all-members"  # noqa: S105 - for servers on the loopback address during a test


class GroupMember(ValkeyServer):
    """A Valkey with the shared password: the primary or a replica."""

    def _read_password(self) -> str:
        return PASSWORD

    @property
    def place(self) -> tuple[str, int]:
        return self.host, self.port


class Sentinel(ValkeyServer):
    """A Sentinel; `settings` are lines of its configuration, whole or split into name and value."""

    name = "Sentinel"
    usual_settings = MappingProxyType({})

    @property
    def _configuration_path(self) -> Path:
        return self.data_directory / "sentinel.conf"

    def _prepare(self) -> None:
        self._own(self.data_directory)
        if not self._configuration_path.exists():  # the Sentinel stores its state there
            write_private(self._configuration_path, self._configuration(), self._account)

    def _command(self) -> list[str]:
        return [str(self._packages / self.wheel.probe), str(self._configuration_path), "--sentinel"]

    def _answers(self, connection: socket.socket) -> bool:
        connection.sendall(b"PING\r\n")
        return connection.recv(5) in (b"+PONG", b"-NOAU")

    def _configuration(self) -> str:
        lines = [f"{name} {value or ''}" for name, value in self.settings.items()]
        return "\n".join([f"bind {self.host}", f"port {self.port}", f"dir {self.data_directory}", *lines, ""])


def sentinel_ids(ports: Sequence[int]) -> dict[int, str]:
    """An id for each Sentinel's port, so that they can be configured with each other's."""
    return {port: secrets.token_hex(20) for port in ports}


def sentinel_settings(
    name: str,
    port: int,
    ids: Mapping[int, str],
    *,
    primary: int,
    replicas: Sequence[int],
    down_after: float,
    failover_timeout: float,
) -> dict[str, str]:
    """The settings of the Sentinel on that port, with all other servers preconfigured. Times in seconds.

    `ids`: of all Sentinels, by port. `primary` and `replicas`: ports on the loopback address, as clients see them.
    """
    lines = (
        f"myid {ids[port]}",
        f"monitor {name} {LOOPBACK} {primary} {len(ids) // 2 + 1}",
        f"auth-pass {name} {PASSWORD}",
        f"down-after-milliseconds {name} {round(down_after * 1000)}",
        f"failover-timeout {name} {round(failover_timeout * 1000)}",  # no second failover for twice this time
        *(f"known-replica {name} {LOOPBACK} {replica}" for replica in replicas),
        *(f"known-sentinel {name} {LOOPBACK} {other} {own}" for other, own in ids.items() if other != port),
    )
    return dict.fromkeys((f"sentinel {line}" for line in lines), "")
