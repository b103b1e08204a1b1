"""The books as anyone may read them: in a directory, or over HTTP from the notary. Nothing here is believed; whoever
reads holds it against a signed checkpoint.

Over HTTP a tile is one request, and 32 MB go over the line per million leaves.
"""

import http.client
import ssl
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import msgspec

from intake.books.entries import Position
from intake.books.tree import HASH_BYTES, TILE_WIDTH, tile_path
from intake.books.tree_files import KEY_BYTES, Files, Levels, Unusable

TIMEOUT: Final = 10.0
"""Seconds that an answer may take."""
_LONGEST = 1 << 30
"""Bytes of an answer at most: `keys` has 24 for each 256 leaves."""


class CannotRead(Exception):
    """The books are not there, cut short, or not readable; one sentence says what and where."""


class Hashes(Protocol):
    """The hashes of a tree of one size. Methods raise CannotRead."""

    def read(self, level: int, start: int, count: int) -> bytes:
        """As `tree.Read`."""
        ...

    def key(self, tile: int) -> bytes:
        """The 24 bytes kept for a full tile of level 0."""
        ...


class Books(Protocol):
    """Books at one place. Methods raise CannotRead."""

    place: str

    def checkpoint(self) -> bytes:
        """The newest checkpoint. It is read first: what it signed is complete in every other file."""
        ...

    def turns(self) -> bytes:
        """File `turns`, empty when there was no turn."""
        ...

    def hashes(self, size: int) -> Hashes:
        """The tree of the first `size` leaves."""
        ...

    def position(self, size: int) -> Position | None:
        """The place in the log up to which events are in a tree of `size` leaves; None where this is not told."""
        ...


def books_at(place: str) -> Books:
    """The books in this directory, or at this http or https URL; its path is /books when it has none."""
    return _AtUrl(place) if place.startswith(("http://", "https://")) else _InDirectory(Path(place))


class _At(msgspec.Struct):
    epoch: int
    xid: int
    seq: int


class _State(msgspec.Struct):
    checkpoint: str
    position: _At


class _InDirectory:
    def __init__(self, directory: Path) -> None:
        self.place = str(directory)
        self._files = Files(directory)

    def checkpoint(self) -> bytes:
        return self._whole("checkpoint")

    def turns(self) -> bytes:
        return self._whole("turns") if (self._files.directory / "turns").exists() else b""

    def hashes(self, size: int) -> Hashes:
        return _LevelsInFiles(Levels(self._files, size))

    def position(self, size: int) -> Position | None:
        try:
            state = msgspec.json.decode(self._whole("state"), type=_State)
        except msgspec.DecodeError:
            return None
        newest = state.checkpoint.split("\n")[1:2]  # which may have grown since its checkpoint was read
        at = state.position
        return Position(at.epoch, at.xid, at.seq) if newest == [str(size)] else None

    def _whole(self, name: str) -> bytes:
        try:
            return self._files.read(name)
        except OSError as error:
            raise CannotRead(f"The books in {self.place} cannot be read: {name}: {error.strerror}.") from None


class _LevelsInFiles:
    def __init__(self, levels: Levels) -> None:
        self._levels = levels

    def read(self, level: int, start: int, count: int) -> bytes:
        try:
            return self._levels.read(level, start, count)
        except (Unusable, OSError) as error:
            raise CannotRead(str(error)) from None

    def key(self, tile: int) -> bytes:
        try:
            return self._levels.key(tile)
        except (Unusable, OSError) as error:
            raise CannotRead(str(error)) from None


class _AtUrl:
    def __init__(self, url: str) -> None:
        parts = urlsplit(url.rstrip("/"))
        self.place = parts.geturl() if parts.path else f"{parts.geturl()}/books"
        if not parts.hostname or parts.query or parts.fragment or parts.username:
            raise CannotRead(f"{url} is no address of books: it is written https://notary.example/books.")
        self._path = parts.path or "/books"
        if parts.scheme == "https":
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=TIMEOUT, context=ssl.create_default_context()
            )
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)

    def checkpoint(self) -> bytes:
        return self.get("checkpoint")

    def turns(self) -> bytes:
        return self.get("turns")

    def hashes(self, size: int) -> Hashes:
        return _Tiles(self, size)

    def position(self, size: int) -> Position | None:
        return None

    def get(self, path: str) -> bytes:
        """The answer to GET of this path, over one connection that is opened again once when it was closed."""
        try:
            try:
                return self._answer(path)
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()
                return self._answer(path)
        except (http.client.HTTPException, OSError) as error:
            self._connection.close()
            raise CannotRead(f"{self.place}/{path} cannot be read: {error or type(error).__name__}.") from None

    def _answer(self, path: str) -> bytes:
        self._connection.request("GET", f"{self._path}/{path}")
        answer = self._connection.getresponse()
        body = answer.read(_LONGEST)
        if answer.status != 200:
            self._connection.close()
            raise CannotRead(f"{self.place}/{path} cannot be read: status {answer.status}.")
        return body


class _Tiles:
    """A tree's hashes from tiles, each of which is asked for once while it is read from left to right."""

    def __init__(self, books: _AtUrl, size: int) -> None:
        self._books = books
        self._size = size
        self._last: dict[int, tuple[int, bytes]] = {}
        self._keys: bytes | None = None

    def read(self, level: int, start: int, count: int) -> bytes:
        found = bytearray()
        while count:
            tile, at = divmod(start, TILE_WIDTH)
            taken = min(count, TILE_WIDTH - at)
            found += self._tile(level, tile)[at * HASH_BYTES : (at + taken) * HASH_BYTES]
            start, count = start + taken, count - taken
        return bytes(found)

    def _tile(self, level: int, tile: int) -> bytes:
        known = self._last.get(level)
        if known is not None and known[0] == tile:
            return known[1]
        width = min(TILE_WIDTH, (self._size >> 8 * level) - tile * TILE_WIDTH)
        path = tile_path(level, tile, width)
        hashes = self._books.get(path)
        if len(hashes) != width * HASH_BYTES:
            raise CannotRead(f"{self._books.place}/{path} has {len(hashes)} bytes, not {width * HASH_BYTES}.")
        self._last[level] = (tile, hashes)
        return hashes

    def key(self, tile: int) -> bytes:
        if self._keys is None:
            self._keys = self._books.get("keys")
            if len(self._keys) < self._size // TILE_WIDTH * KEY_BYTES:
                raise CannotRead(f"{self._books.place}/keys is cut short for {self._size:,} leaves.")
        return self._keys[tile * KEY_BYTES : (tile + 1) * KEY_BYTES]
