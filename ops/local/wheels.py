"""Finds the programs of PostgreSQL and Valkey in the installed wheels."""

import importlib.metadata
import importlib.util
import platform
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ops.local.accounts import Account, succeeds


@dataclass(frozen=True)
class Wheel:
    """A package with programs. It is located without being imported, because only its programs are used."""

    package: str
    distribution: str
    parts: tuple[str, ...]
    probe: str

    def find(self) -> Path | None:
        """The directory the package is installed in, if it has the program for this machine; otherwise None."""
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            return None
        root = Path(found.submodule_search_locations[0]).parent
        return root if (root / self.probe).is_file() else None

    def runs(self, root: Path, account: Account | None) -> bool:
        return succeeds([str(root / self.probe), "--version"], account)

    def copy(self, root: Path, home: Path) -> Path:
        """A copy that every account can read, made once per version; the parts keep their relative places."""
        target = home / f"{self.distribution}-{importlib.metadata.version(self.distribution)}"
        if not target.exists():
            with made_whole(target) as fresh:
                for part in self.parts:
                    if (root / part).exists():
                        shutil.copytree(root / part, fresh / part, symlinks=True, ignore=_FOR_COMPILERS)
                _make_world_readable(fresh)
        return target


_FOR_COMPILERS = shutil.ignore_patterns("*.a", "include", "pkgconfig")


def _make_world_readable(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & stat.S_IXUSR else 0o644)


@contextmanager
def made_whole(target: Path) -> Iterator[Path]:
    """A temporary directory to fill; it is renamed to `target` when complete, or removed after an error."""
    fresh = target.with_name(f"{target.name}.unfinished")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    try:
        yield fresh
        fresh.rename(target)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def valkey_platform() -> str:
    """The name of this platform in Valkey's wheel: aarch64 on Linux, arm64 on macOS."""
    system, machine = platform.system().lower(), platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        machine = "arm64" if system == "darwin" else "aarch64"
    return f"{system}-{machine.replace('amd64', 'x86_64')}"
