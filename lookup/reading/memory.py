"""Process memory: copies of records by code, limited in bytes, with LRU eviction.

The feed (lookup/reading/feed.py) decides whether a copy may still be trusted.
"""

from collections.abc import Callable

import cachebox
import msgspec

from lookup.clock import Micros

OVERHEAD = 400
"""Bytes a copy costs besides its contents: objects, key, table slot, and what the allocator loses.

Measured as resident memory on CPython 3.11 with 200,000 copies (`make bench`, case memory).
"""

RENDERED_OVERHEAD = 260
"""Bytes a finished answer costs besides its body, measured the same way."""

FINISHED_BYTES = 8 << 20
"""Bytes reserved for finished answers, about twenty thousand of them; at most an eighth of the memory.

Finishing an answer takes a few microseconds, loading a record a hundred: records come first.
"""


# Neither class can be part of a reference cycle, so the garbage collector need not track their many instances.
class Rendered(msgspec.Struct, frozen=True, gc=False):
    """The parts of a record's anonymous answer that are the same for every request (lookup/web/hotpath.py)."""

    view: str
    tag: bytes
    length: bytes
    body: bytes

    @property
    def size(self) -> int:
        """What it takes of the memory's bytes."""
        return RENDERED_OVERHEAD + len(self.body)


class Copy(msgspec.Struct, eq=False, gc=False):
    """One record in memory. `body` is the packed record as in Redis; empty for a removed dossier."""

    version: int
    as_of: Micros
    """When it was known to be current by its own load; Feed.as_of adds what the feed confirms."""
    body: bytes
    generation: int
    """The feed's generation it was loaded in; in a later one, changes may have been missed."""
    trusted: int
    """The same generation if it leans on the feed, 0 if it ages by `as_of` alone."""

    @property
    def size(self) -> int:
        """What it takes of the memory's bytes."""
        return OVERHEAD + len(self.body)


class Memory:
    """At most `size` bytes of copies and of answers finished from them (`finished` bytes of it); 0 keeps nothing.

    A copy's finished answer is dropped with the copy, or earlier to make room for other answers.
    """

    def __init__(self, size: int, *, finished: int | None = None) -> None:
        finished = min(FINISHED_BYTES, size // 8) if finished is None else finished
        self._size = size - finished
        self.dropped: Callable[[str, Copy], None] = lambda *_: None
        """Called with each evicted copy."""
        self._copies: cachebox.LRUCache[str, Copy] = cachebox.LRUCache(
            max(1, self._size), getsizeof=lambda _, copy: copy.size
        )
        self._finished_size = finished
        self._finished: cachebox.LRUCache[str, Rendered] = cachebox.LRUCache(
            max(1, finished), getsizeof=lambda _, answer: answer.size
        )
        self.get = self._copies.get
        """The copy under this code, or None. Counts as a use."""
        self.finished = self._finished.get
        """The finished answer of the copy under this code, or None. Counts as a use."""

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def used(self) -> int:
        """Bytes taken."""
        return int(self._copies.current_size() + self._finished.current_size())

    def look(self, code: str) -> Copy | None:
        """The copy under this code, or None. Does not count as a use."""
        return self._copies.peek(code)

    def keep(self, code: str, copy: Copy) -> None:
        """Store this copy, replacing the old one; evicts the least recently used copies if needed."""
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
        """Store the answer finished from the copy under this code; evicts the least recently used ones."""
        self._finished.pop(code, None)
        if answer.size <= self._finished_size and code in self._copies:
            self._finished.insert(code, answer)

    def drop(self, code: str) -> None:
        """Delete the copy under this code, if there is one."""
        self._copies.pop(code, None)
        self._finished.pop(code, None)

    def clear(self) -> None:
        """Delete everything."""
        self._copies.clear()
        self._finished.clear()
