"""Process memory: copies of records under their codes, bounded in bytes, the least recently used dropped first.

Whether a copy may still be trusted is not decided here but by the feed (lookup/feed.py), which stands beside it.
"""

from collections.abc import Callable

import cachebox
import msgspec

OVERHEAD = 400
"""Bytes a copy costs besides its contents: its objects, its key, its place in the table, and what the allocator loses.

Measured on CPython 3.11 with 200,000 of them, by what is resident (`make bench`, case memory).
"""

RENDERED_OVERHEAD = 160
"""Bytes its rendered answer costs besides the body."""


# Neither can be part of a cycle, so the garbage collector need not know of them, and has so many less to walk.
class Rendered(msgspec.Struct, frozen=True, gc=False):
    """A record's anonymous answer, as far as it is the same for everybody who asks (lookup/hotpath.py)."""

    view: str
    tag: bytes
    length: bytes
    body: bytes


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
    rendered: Rendered | None = None

    @property
    def size(self) -> int:
        """What it takes of the memory's bytes."""
        rendered = RENDERED_OVERHEAD + len(self.rendered.body) if self.rendered else 0
        return OVERHEAD + len(self.body) + rendered


class Memory:
    """At most `size` bytes of copies; with 0 it keeps nothing."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.dropped: Callable[[str, Copy], None] = lambda *_: None
        """Told of each copy that has to go to make room."""
        self._copies: cachebox.LRUCache[str, Copy] = cachebox.LRUCache(
            max(1, size), getsizeof=lambda _, copy: copy.size
        )
        self.get = self._copies.get
        """The copy under this code, which counts as used now, or None."""

    def __len__(self) -> int:
        return len(self._copies)

    @property
    def used(self) -> int:
        """Bytes taken."""
        return int(self._copies.current_size())

    def look(self, code: str) -> Copy | None:
        """The copy under this code, without its counting as used."""
        return self._copies.peek(code)

    def keep(self, code: str, copy: Copy) -> None:
        """Keep this copy, in the place of what is there; the least recently used make room for it."""
        self.drop(code)  # what is there may be this very copy, grown
        size = copy.size
        if size > self._size:
            return
        while self._copies.current_size() > self._size - size:
            self.dropped(*self._copies.popitem())
        self._copies.insert(code, copy)

    def drop(self, code: str) -> None:
        """Forget the copy under this code, if there is one."""
        self._copies.pop(code, None)

    def clear(self) -> None:
        """Forget everything."""
        self._copies.clear()
