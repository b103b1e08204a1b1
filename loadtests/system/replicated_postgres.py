"""The embedded PostgreSQL as a primary or a hot standby; `make up` has one server and needs neither."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ops.local.accounts import ENVIRONMENT, private, write_private
from ops.local.cannot_start import sentences
from ops.local.postgres import PostgresServer
from ops.local.reaper import Reaper
from ops.local.servers import NO_SETTINGS


class ReplicatedPostgres(PostgresServer):
    """A server that can follow another one. `start` starts a primary, `start_standby` a standby."""

    _primary: PostgresServer | None = None

    @classmethod
    def start_standby(
        cls,
        directory: Path,
        primary: PostgresServer,
        *,
        port: int | None = None,
        settings: Mapping[str, str] = NO_SETTINGS,
        reaper: Reaper | None = None,
    ) -> Self:
        """A hot standby with streaming replication from the primary, created from a base backup at its first start.

        Returns when it accepts connections. Raises CannotStart.
        """
        directory = directory.resolve()
        with sentences(cls.name, directory):
            standby = cls(directory, port, settings, reaper)
            standby._replicate(primary)
            standby._launch()
        return standby

    def follow(self, primary: PostgresServer, *, afresh: bool = False) -> None:
        """Makes this server a hot standby of that primary, on the same port; a running server is stopped first.

        pg_rewind undoes writes that the primary does not have; if it fails, or with `afresh`, a base backup replaces
        the data. The primary must have made a checkpoint since its promotion. Settings of ALTER SYSTEM are replaced by
        the primary's. Raises CannotStart.
        """
        self.stop()
        with sentences(self.name, self.home):
            self._replicate(primary)
            if afresh or not self._rewound(primary):
                shutil.rmtree(self.data_directory)
            self._launch()

    def _replicate(self, primary: PostgresServer) -> None:
        self._primary = primary
        self._environ = {**ENVIRONMENT, "PGPASSWORD": primary._read_password()}

    def _make_cluster(self) -> None:
        if self._primary is not None and not (self.home / "password").exists():
            write_private(self.home / "password", self._primary._read_password(), self._account)
        super()._make_cluster()

    def _rewound(self, primary: PostgresServer) -> bool:
        """Runs pg_rewind against the primary; whether it succeeded."""
        if not (self.data_directory / "PG_VERSION").exists():
            return False
        self._refuse_running_postmaster()
        write_private(self.home / "postgresql.conf", self._configuration(), self._account)
        source = f"host={primary.host} port={primary.port} user=postgres dbname=postgres"
        outcome = self._run(
            [
                str(self.bin_directory / "pg_rewind"),
                f"--target-pgdata={self.data_directory}",
                f"--source-server={source}",
                f"--config-file={self.home / 'postgresql.conf'}",
                "--write-recovery-conf",
                *self._no_sync(),
            ]
        )
        with open(self.log_path, "ab", opener=private) as log:
            log.write(outcome.stderr.encode())
        return outcome.returncode == 0

    def _creation(self, target: Path) -> list[str]:
        """A base backup of the primary, if there is one."""
        if self._primary is None:
            return super()._creation(target)
        return [
            str(self.bin_directory / "pg_basebackup"),
            f"--pgdata={target}",
            f"--host={self._primary.host}",
            f"--port={self._primary.port}",
            "--username=postgres",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--write-recovery-conf",
            *self._no_sync(),
        ]
