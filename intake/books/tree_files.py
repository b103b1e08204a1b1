"""The tree in files: levels, the newest signed state, and the checkpoint that is published.

What stands in the directory:

- `level/0`, `level/1` …: the levels of intake/books/tree.py, one flat file each.
- `keys`: 24 bytes for each full tile of level 0, which the caller gave with the tile's last leaf.
- `state`: the newest signed checkpoint, and whatever the caller has to know to go on behind it.
- `checkpoint`: the same checkpoint, as it is published.

A signature counts once `state` has its name. Everything before that writes behind the end of the signed tree, where
nothing reads; `checkpoint` is written after it. So whenever the process ends, the directory holds either the old signed
state or the new one. Nothing below the signed size is ever written again.
"""

import fcntl
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from intake.books.checkpoint import Checkpoint, NotACheckpoint, Signer, VerifierKey
from intake.books.tree import HASH_BYTES, LEVELS, TILE_WIDTH, Edge, root, tile_of

KEY_BYTES: Final = 24

_HELD_BYTES = 256 * 1024
"""Of one file, before they are written without a signature: a batch of any size needs no more memory."""


class Unusable(Exception):
    """The directory holds no tree that may grow; the message says why, and what to do."""


class InUse(Unusable):
    """Another process writes the books in this directory."""


class Files:
    """Every operation on the files of one directory. Each method is one operation and may raise OSError.

    Paths are relative to the directory. Tests put another class in its place.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._lock: int | None = None

    def lock(self) -> None:
        """Keep other processes from this directory until `unlock`, or until this process ends. Raises InUse."""
        handle = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            raise InUse(
                f"Another process, the notary that runs already, writes the books in {self.directory}: stop it first."
            ) from None
        self._lock = handle

    def unlock(self) -> None:
        """Let another process write."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def size(self, path: str) -> int | None:
        """The length in bytes; None when there is no such file."""
        try:
            return (self.directory / path).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, path: str, start: int = 0, count: int | None = None) -> bytes:
        """`count` bytes from `start` on, to the end without `count`; fewer where the file ends."""
        with (self.directory / path).open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(-1 if count is None else count)

    def write(self, path: str, data: bytes, start: int = 0) -> None:
        """Write `data` at `start`; the file is made if there is none. Not durable until `sync`."""
        handle = os.open(self.directory / path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            rest = memoryview(data)
            while rest:
                written = os.pwrite(handle, rest, start)
                start, rest = start + written, rest[written:]
        finally:
            os.close(handle)

    def cut(self, path: str) -> None:
        """Make the file empty; it is made if there is none."""
        os.close(os.open(self.directory / path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644))

    def sync(self, path: str) -> None:
        """Wait until what was written to a file is on the disk; for a directory: which files it has."""
        handle = os.open(self.directory / path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of the file that has it."""
        (self.directory / old).replace(self.directory / new)

    def make_directory(self, path: str) -> None:
        """Make a directory; nothing happens if there is one."""
        (self.directory / path).mkdir(exist_ok=True)


class Levels:
    """Reads the levels of a tree of `size` leaves. Any process may, beside the one that writes."""

    def __init__(self, files: Files, size: int) -> None:
        self._files = files
        self.size = size

    def read(self, level: int, start: int, count: int) -> bytes:
        """`count` hashes of a level from `start` on, as `tree.Read`. Raises Unusable when the file ends before."""
        if not 0 <= start <= start + count <= self.size >> 8 * level:
            raise ValueError(f"level {level} of a tree of {self.size} leaves has no hashes {start} to {start + count}")
        return self._range(f"level/{level}", start * HASH_BYTES, count * HASH_BYTES)

    def key(self, tile: int) -> bytes:
        """The 24 bytes that were given with the last leaf of this full tile. Raises Unusable where the file ends."""
        if not 0 <= tile < self.size // TILE_WIDTH:
            raise ValueError(f"a tree of {self.size} leaves has no full tile {tile}")
        return self._range("keys", tile * KEY_BYTES, KEY_BYTES)

    def keys(self) -> bytes:
        """The keys of all full tiles, 24 bytes each. Raises Unusable where the file ends."""
        return self._range("keys", 0, self.size // TILE_WIDTH * KEY_BYTES)

    def tile(self, path: str) -> bytes | None:
        """The bytes of the tile at this path; None when the tree has no such tile. Raises Unusable."""
        there = tile_of(path, self.size)
        return None if there is None else self.read(*there)

    def _range(self, path: str, start: int, count: int) -> bytes:
        try:
            found = self._files.read(path, start, count)
        except FileNotFoundError:
            found = b""
        if len(found) != count:
            raise Unusable(_cut_short(path, self.size))
        return found


def _lengths(size: int) -> dict[str, int]:
    """File → bytes of it that belong to a tree of `size` leaves."""
    levels = {f"level/{level}": (size >> 8 * level) * HASH_BYTES for level in range(LEVELS)}
    return levels | {"keys": size // TILE_WIDTH * KEY_BYTES}


def _check_lengths(files: Files, size: int) -> None:
    for path, length in _lengths(size).items():
        if (files.size(path) or 0) < length:
            raise Unusable(_cut_short(path, size))


def _cut_short(path: str, size: int) -> str:
    return (
        f"The file {path} is cut short: the signed tree of {size:,} leaves needs {_lengths(size)[path]:,} bytes of it. "
        "Restore the newest books, or make them anew from the log."
    )


class _State(msgspec.Struct, forbid_unknown_fields=True):
    checkpoint: str
    position: msgspec.Raw


class SignedTree:
    """A tree that grows and is signed, in a directory that it alone writes.

    After any exception of `append` or `sign` the object is of no use: what it remembers may be on the disk or not.
    Open the directory again.
    """

    def __init__(self, files: Files, signer: Signer, checkpoint: Checkpoint, note: str, position: bytes) -> None:
        """Use `open` or `begin`."""
        self._files = files
        self._signer = signer
        self._edge = Edge.of(Levels(files, checkpoint.size).read, checkpoint.size)
        self._held: dict[str, bytearray] = {}
        self._ends = _lengths(checkpoint.size)
        self._written: set[str] = set()
        self._usable = True
        self.checkpoint = checkpoint
        """The newest one that was signed and is safe on the disk."""
        self.note = note
        """Its signed text."""
        self._position = position

    @classmethod
    def begin(cls, files: Files, signer: Signer, position: Any = None) -> "SignedTree":
        """A new tree without leaves, signed, in a directory that has no tree. Raises Unusable, OSError."""
        files.lock()
        try:
            return cls._begun(files, signer, position)
        except BaseException:
            files.unlock()
            raise

    @classmethod
    def _begun(cls, files: Files, signer: Signer, position: Any) -> "SignedTree":
        for name in ("state", "checkpoint", *_lengths(0)):
            if files.size(name) is not None:
                raise Unusable(
                    f"{files.directory} holds a tree already (its file {name}): start without --first to go on with it."
                )
        files.make_directory("level")
        files.sync(".")
        checkpoint = Checkpoint(signer.key.name, 0, root(Levels(files, 0).read, 0))
        tree = cls(files, signer, checkpoint, "", b"null")
        tree.sign(position)
        return tree

    @classmethod
    def open(cls, files: Files, signer: Signer) -> "SignedTree":
        """The newest signed tree in the directory, after its root was held against the files.

        What was appended and not signed is forgotten. Raises Unusable when another process has the directory, when
        there is no tree, when the state is not this signer's, or when files and state do not fit; and OSError.
        """
        files.lock()
        try:
            return cls._opened(files, signer)
        except BaseException:
            files.unlock()
            raise

    @classmethod
    def _opened(cls, files: Files, signer: Signer) -> "SignedTree":
        if files.size("state") is None:
            raise Unusable(
                f"{files.directory} has no file state: a new tree begins with --first and an empty directory, an old "
                "one needs its files back."
            )
        try:
            state = msgspec.json.decode(files.read("state"), type=_State)
            checkpoint = Checkpoint.opened(state.checkpoint.encode(), signer.key)
        except (msgspec.DecodeError, NotACheckpoint) as wrong:
            raise Unusable(f"The file state in {files.directory} cannot be used: {wrong}.") from None
        _check_lengths(files, checkpoint.size)
        tree = cls(files, signer, checkpoint, state.checkpoint, bytes(state.position))
        if tree._edge.root() != checkpoint.root:
            raise Unusable(
                f"The levels in {files.directory} do not have the root that was signed at {checkpoint.size:,} leaves: "
                "they were damaged or altered. Restore the books, or make them anew from the log."
            )
        tree._publish_again()
        return tree

    def _publish_again(self) -> None:
        """Write `checkpoint` if the process ended before it did. Raises Unusable if a newer one was published."""
        published = published_checkpoint(self._files, self._signer.key)
        if published is not None and published.size > self.checkpoint.size:
            raise Unusable(
                f"A checkpoint of {published.size:,} leaves was published, and the file state in "
                f"{self._files.directory} has {self.checkpoint.size:,}: an older copy was put in its place. Restore "
                "the newest books."
            )
        if published is not None and published.size == self.checkpoint.size and published != self.checkpoint:
            raise Unusable(
                f"Two trees of {published.size:,} leaves were signed, in state and in checkpoint of "
                f"{self._files.directory}. Keep both files, stop the notary, and follow the runbook."
            )
        if published != self.checkpoint:
            replace(self._files, "checkpoint", self.note.encode())

    @property
    def size(self) -> int:
        """How many leaves the tree has, the unsigned ones among them."""
        return self._edge.size

    @property
    def position(self) -> Any:
        """What the caller gave to the newest signature, as JSON knows it."""
        return msgspec.json.decode(self._position)

    def root(self) -> bytes:
        """The root of the tree, the unsigned leaves among it."""
        return self._edge.root()

    def append(self, leaf: bytes, key: bytes) -> None:
        """Add a leaf hash, unsigned. `key` is 24 bytes, kept if this leaf completes a tile. Raises OSError."""
        self._check_usable()
        if len(leaf) != HASH_BYTES or len(key) != KEY_BYTES:
            raise ValueError(f"a leaf has 32 bytes and a key 24, not {len(leaf)} and {len(key)}")
        self._usable = False
        self._hold("level/0", leaf)
        for level, node in self._edge.append(leaf):
            self._hold(f"level/{level}", node)
        if self._edge.size % TILE_WIDTH == 0:
            self._hold("keys", key)
        self._usable = True

    def sign(self, position: Any) -> str:
        """Sign the tree as it is, and publish the checkpoint. Returns its text.

        When it returns, everything is on the disk. `position` is any JSON value; `open` gives it back. Raises OSError.
        """
        self._check_usable()
        self._usable = False
        for path in list(self._held):
            self._write(path)
        for path in sorted(self._written):
            self._files.sync(path)
        if self._written:
            self._files.sync("level")
            self._files.sync(".")
        self._written.clear()
        checkpoint = Checkpoint(self._signer.key.name, self._edge.size, self._edge.root())
        note = checkpoint.signed(self._signer)
        encoded = msgspec.json.encode(position)
        replace(self._files, "state", msgspec.json.encode(_State(note, msgspec.Raw(encoded))))
        self.checkpoint, self.note, self._position = checkpoint, note, encoded
        replace(self._files, "checkpoint", note.encode())
        self._usable = True
        return note

    def levels(self) -> Levels:
        """The signed tree's levels, for tiles and proofs."""
        return Levels(self._files, self.checkpoint.size)

    def close(self) -> None:
        """Give the directory back. What was not signed is forgotten."""
        self._usable = False
        self._files.unlock()

    def _check_usable(self) -> None:
        if not self._usable:
            raise RuntimeError("an operation on this tree failed before: open the directory again")

    def _hold(self, path: str, data: bytes) -> None:
        held = self._held.setdefault(path, bytearray())
        held += data
        if len(held) >= _HELD_BYTES:
            self._write(path)

    def _write(self, path: str) -> None:
        data = bytes(self._held.pop(path))
        self._files.write(path, data, self._ends[path])
        self._ends[path] += len(data)
        self._written.add(path)


def replace(files: Files, path: str, data: bytes) -> None:
    """Put a file with these bytes in place of another: at every moment there is the old one or the new one.

    It is on the disk when this returns. Raises OSError.
    """
    aside = f"{path}.new"
    files.cut(aside)
    files.write(aside, data)
    files.sync(aside)
    files.rename(aside, path)
    files.sync(".")


def published_checkpoint(files: Files, key: VerifierKey) -> Checkpoint | None:
    """The published checkpoint; None when there is none yet. Raises Unusable when it is none of `key`."""
    try:
        return Checkpoint.opened(files.read("checkpoint"), key)
    except FileNotFoundError:
        return None
    except NotACheckpoint as wrong:
        raise Unusable(f"The file checkpoint in {files.directory} cannot be used: {wrong}.") from None


def first_difference(levels: Levels) -> str | None:
    """A sentence about the first hash above level 0 that is not what the leaves make; None when all files fit.

    Reads every leaf once, a tile at a time. The root is the caller's to compare, with `tree.root`. Raises Unusable.
    """
    edge = Edge()
    ends = [0] * LEVELS
    for start in range(0, levels.size, TILE_WIDTH):
        hashes = levels.read(0, start, min(TILE_WIDTH, levels.size - start))
        for at in range(0, len(hashes), HASH_BYTES):
            for level, node in edge.append(hashes[at : at + HASH_BYTES]):
                if levels.read(level, ends[level], 1) != node:
                    return f"hash {ends[level]:,} of level/{level} is not the root of the tile below it"
                ends[level] += 1
    return None
