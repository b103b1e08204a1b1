"""Process memory: copies of records under their codes, bounded in bytes, the least recently used dropped first.

Whether a copy may still be trusted is decided by the feed beside it (lookup/reading/feed.py), not here.
"""

from collections.abc import Callable

import cachebox
import msgspec

OVERHEAD = 400
"""Bytes a copy costs besides its contents: its objects, its key, its place in the table, and what the allocator loses.

Measured on CPython 3.11 with 200,000 of them, by what is resident (`make bench`, case memory).
"""

RENDERED_OVERHEAD = 260
"""Bytes a finished answer costs besides its body, measured likewise."""

FINISHED_BYTES = 8 << 20
"""Of the memory's bytes those for finished answers, some twenty thousand: an eighth of it at most.

Making one anew takes a few microseconds, loading a record a hundred: when both cannot be had, records are worth more.
"""


# Neither can be part of a cycle, so the garbage collector need not know of them, and has so many less to walk.
class Rendered(msgspec.Struct, frozen=True, gc=False):
    """A record's anonymous answer, as far as it is the same for everybody who asks (lookup/web/hotpath.py)."""

    view: str
    tag: bytes
    length: bytes
    body: bytes

    @property
    def size(self) -> int:
        """What it takes of the memory's bytes."""
        return RENDERED_OVERHEAD + len(self.body)


class Copy(msgspec.Struct, eq=False, gc=False):
    """One record in memory. `body` is what the cache holds of it; empty for a removed dossier."""

    version: int
    as_of: int
    """When it was certainly the truth, by itself; what the feed adds to that is the feed's to say."""
    body: bytes
    generation: int
    """The feed's generation it was loaded in; in any other, changes may have been missed since."""
    trusted: int
    """That generation if it leans on the feed, 0 if it ages by `as_of` alone."""

    @property
    def size(self) -> int:
        """What it takes of the memory's bytes."""
        return OVERHEAD + len(self.body)


class Memory:
    """At most `size` bytes of copies and of the answers finished from them (`finished` bytes); with 0 it keeps nothing.

    A copy's finished answer goes when the copy goes, or before it, to make room for other answers.
    """

    def __init__(self, size: int, *, finished: int | None = None) -> None:
        finished = min(FINISHED_BYTES, size // 8) if finished is None else finished
        self._size = size - finished
        self.dropped: Callable[[str, Copy], None] = lambda *_: None
        """Told of each copy that has to go to make room."""
        self._copies: cachebox.LRUCache[str, Copy] = cachebox.LRUCache(
            max(1, self._size), getsizeof=lambda _, copy: copy.size
        )
        self._finished_size = finished
        self._finished: cachebox.LRUCache[str, Rendered] = cachebox.LRUCache(
            max(1, finished), getsizeof=lambda _, answer: answer.size
        )
        self.get = self._copies.get
        """The copy under this code, which counts as used now, or None."""
        self.finished = self._finished.get
        """The finished answer of the copy under this code, which counts as used now, or None."""

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def used(self) -> int:
        """Bytes taken."""
        return int(self._copies.current_size() + self._finished.current_size())

    def look(self, code: str) -> Copy | None:
        """The copy under this code, without its counting as used."""
        return self._copies.peek(code)

    def keep(self, code: str, copy: Copy) -> None:
        """Keep this copy, in the place of what is there; the least recently used make room for it."""
        self.drop(code)
        size = copy.size
        if size > self._size:
            return
        while self._copies.current_size() > self._size - size:
            other, gone = self._copies.popitem()
            self._finished.pop(other, None)
            self.dropped(other, gone)
        self._copies.insert(code, copy)

    def finish(self, code: str, answer: Rendered) -> None:
        """Keep what was made of the copy under this code; the least recently used answers make room for it."""
        self._finished.pop(code, None)
        if answer.size <= self._finished_size and code in self._copies:
            self._finished.insert(code, answer)

    def drop(self, code: str) -> None:
        """Forget the copy under this code, if there is one."""
        self._copies.pop(code, None)
        self._finished.pop(code, None)

    def clear(self) -> None:
        """Forget everything."""
        self._copies.clear()
        self._finished.clear()
