"""Members of a group that share a password, and Sentinels that watch them: for one machine and for tests."""

import secrets
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ops.local.accounts import write_private
from ops.local.ports import LOOPBACK
from ops.local.valkey import ValkeyServer

PASSWORD = "shared-by-all-members"  # noqa: S105 - of servers that live as long as a test, on the loopback address


class Member(ValkeyServer):
    """A Valkey that shares its password with others, as a primary and its replicas do."""

    def _read_password(self) -> str:
        return PASSWORD

    @property
    def place(self) -> tuple[str, int]:
        return self.host, self.port


class Sentinel(ValkeyServer):
    """A Sentinel; `settings` are lines of its configuration, with or without a value apart."""

    name = "Sentinel"
    usual_settings = MappingProxyType({})

    @property
    def _configuration_path(self) -> Path:
        return self.data_directory / "sentinel.conf"

    def _prepare(self) -> None:
        self._own(self.data_directory)
        if not self._configuration_path.exists():  # it writes there what it learns
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
    """An id for each Sentinel's port, so that they can be told of each other before they have met."""
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
    """The settings of the Sentinel on that port, which knows everybody from the first moment. Times in seconds.

    `ids`: of all Sentinels, by port. `primary` and `replicas` are ports of the loopback address, as clients see them.
    """
    lines = (
        f"myid {ids[port]}",
        f"monitor {name} {LOOPBACK} {primary} {len(ids) // 2 + 1}",
        f"auth-pass {name} {PASSWORD}",
        f"down-after-milliseconds {name} {round(down_after * 1000)}",
        f"failover-timeout {name} {round(failover_timeout * 1000)}",  # for twice as long there is no second failover
        *(f"known-replica {name} {LOOPBACK} {replica}" for replica in replicas),
        *(f"known-sentinel {name} {LOOPBACK} {other} {own}" for other, own in ids.items() if other != port),
    )
    return dict.fromkeys((f"sentinel {line}" for line in lines), "")
