"""What stands in the books: events, refused events, and turns; and where in the log an entry comes from.

A leaf of the tree is one of three:

- an event: its leaf data is that of intake/books/seal.py;
- a refused event, `hoso24/refused-1` and a newline before the event's leaf hash: no seal key fitted it;
- a turn, `hoso24/epoch-1` and a newline before a JSON array, which is also a line of the file `turns`.

Leaves are in the order of the log, (epoch, xid, seq). Where the database went back in time, or was made anew elsewhere,
a turn says which leaves before it have no event any more, and how many events of the old epoch, in their order, come
right behind it. Then the tree goes on with the turn's epoch.
"""

import struct
from typing import Final, NamedTuple

import msgspec

from intake.books.tree import leaf_hash

REFUSED: Final = b"hoso24/refused-1\n"
TURN: Final = b"hoso24/epoch-1\n"
UNREADABLE: Final = b"hoso24/unreadable-1\n"

_KEY = struct.Struct(">QQQ")


class Position(NamedTuple):
    """The place of an event in the log. Everything up to here is in the books."""

    epoch: int
    xid: int
    seq: int

    @property
    def key(self) -> bytes:
        """The 24 bytes that the file `keys` has of it: three numbers of 8 bytes, the highest byte first."""
        return _KEY.pack(*self)

    @classmethod
    def of_key(cls, key: bytes) -> "Position":
        """The position that these 24 bytes stand for."""
        return cls(*_KEY.unpack(key))


BEGINNING: Final = Position(1, 0, 0)
"""Before the first event of a new database."""


class Turn(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One line of `turns`, and the leaf data of the turn behind its first line."""

    epoch: int
    """The entries behind the late ones are events of this epoch."""
    size: int
    """The entries before the turn; so its own index."""
    void: list[tuple[int, int]]
    """First and last index of each run of leaves before the turn that have no event any more."""
    late: int
    """How many events that had no leaf come right behind the turn, in their order: of the epoch before, as a rule."""
    since: int
    """The first leaf that was compared with the log; late events are those above its predecessor's position."""

    @property
    def end(self) -> int:
        """The first index behind the turn and its late events."""
        return self.size + 1 + self.late

    @property
    def line(self) -> bytes:
        """The JSON array, without a newline."""
        return msgspec.json.encode(self)

    @property
    def leaf(self) -> bytes:
        """The hash of its leaf."""
        return leaf_hash(TURN + self.line)


def refused_leaf(leaf: bytes) -> bytes:
    """The leaf hash of the refused event that has this leaf hash."""
    return leaf_hash(REFUSED + leaf)


def unreadable_leaf(code: str, version: int) -> bytes:
    """Stands for the leaf hash of an event that has none: a time that is no date of the years 1 to 9999, or no salt.

    No program of ours makes such an event, so it is always refused.
    """
    return leaf_hash(UNREADABLE + msgspec.json.encode((code, version)))


def read_turns(text: bytes, size: int) -> list[Turn]:
    """The turns in a tree of `size` leaves. Raises ValueError for any other text.

    A line behind them is a turn that was written, and not signed: it does not count.
    """
    turns: list[Turn] = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            turn = msgspec.json.decode(line, type=Turn)
        except msgspec.DecodeError as wrong:
            raise ValueError(f"line {number} of turns is not one: {wrong}") from None
        if turn.size >= size:
            break
        if turn.line != line or turn.size < end_of(turns) or not 0 <= turn.since <= turn.size or turn.late < 0:
            raise ValueError(f"line {number} of turns does not follow the one before")
        turns.append(turn)
    return turns


def end_of(turns: list[Turn]) -> int:
    """The first index behind the last turn and its late events; 0 without a turn."""
    return turns[-1].end if turns else 0


def ranges(indexes: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers; `indexes` ascend."""
    found: list[tuple[int, int]] = []
    for index in indexes:
        if found and found[-1][1] == index - 1:
            found[-1] = (found[-1][0], index)
        else:
            found.append((index, index))
    return found
