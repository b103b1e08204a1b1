"""The Merkle tree of RFC 9162 (section 2.1, SHA-256): its right edge, roots, proofs and their checks. No I/O.

A tree of any size is kept as levels, each a flat sequence of 32-byte hashes: level 0 holds the leaves, level n the
roots of every full subtree of 256^n leaves. Tile N of a level (C2SP tlog-tiles) is its hashes 256·N to 256·N + 255, so
a tile is a range of bytes of its level. Functions that read a tree take `Read`, which returns such a range.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final

HASH_BYTES: Final = 32
TILE_WIDTH: Final = 256
LEVELS: Final = 8
"""Levels 0 to 7 hold every tree below LARGEST leaves."""
LARGEST: Final = 1 << 63
"""No tree has this many leaves."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""The root of the tree without leaves."""

Read = Callable[[int, int, int], bytes]
"""`read(level, start, count)`: the bytes of `count` hashes of a level, from the hash `start` on."""

_TILE_HEIGHT = 8
_TILE_PATH = re.compile(r"tile/(0|[1-9]\d?)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf with this data."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the node above these two."""
    return hashlib.sha256(b"\1" + left + right).digest()


# -- growing ---------------------------------------------------------------------------------------------------------


class Edge:
    """The right edge of a growing tree: its size, and the root of each full subtree that no larger one contains.

    It has at most 63 hashes, whatever the size.
    """

    def __init__(self, size: int = 0, roots: Sequence[bytes] = ()) -> None:
        """`roots` are those of the subtrees that make up the tree, largest first: one for each bit set in `size`."""
        if size.bit_count() != len(roots) or not 0 <= size < LARGEST:
            raise ValueError(f"a tree of {size} leaves has an edge of {size.bit_count()} hashes, not {len(roots)}")
        self.size = size
        self._roots = list(roots)

    @classmethod
    def of(cls, read: Read, size: int) -> "Edge":
        """The edge of the tree that the first `size` leaves make; it reads at most 255 hashes of each level."""
        return cls(size, list(_subtrees(read, 0, size)))

    def append(self, leaf: bytes) -> list[tuple[int, bytes]]:
        """Add a leaf's hash. Returns (level, hash) for each hash that a level above 0 gains, lowest first."""
        height, node, gained = 0, leaf, []
        while self.size >> height & 1:
            node = node_hash(self._roots.pop(), node)
            height += 1
            if height % _TILE_HEIGHT == 0:
                gained.append((height // _TILE_HEIGHT, node))
        self._roots.append(node)
        self.size += 1
        return gained

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        return _joined(self._roots)


def _joined(roots: Sequence[bytes]) -> bytes:
    """The root above these neighbouring subtrees, largest first."""
    if not roots:
        return EMPTY_ROOT
    node = roots[-1]
    for left in reversed(roots[:-1]):
        node = node_hash(left, node)
    return node


def _subtrees(read: Read, start: int, end: int) -> Iterator[bytes]:
    """The roots of the full subtrees that make up these leaves, largest first; `start` is aligned to the largest."""
    while start < end:
        height = (end - start).bit_length() - 1
        level, above = divmod(height, _TILE_HEIGHT)
        hashes = read(level, start >> level * _TILE_HEIGHT, 1 << above)
        nodes = [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
        while len(nodes) > 1:
            nodes = [node_hash(left, right) for left, right in zip(nodes[::2], nodes[1::2], strict=True)]
        yield nodes[0]
        start += 1 << height


def root(read: Read, size: int) -> bytes:
    """The root of the tree that the first `size` leaves make."""
    return _range_root(read, 0, size)


def _range_root(read: Read, start: int, end: int) -> bytes:
    return _joined(list(_subtrees(read, start, end)))


# -- proofs ----------------------------------------------------------------------------------------------------------


def inclusion(read: Read, index: int, size: int) -> list[bytes]:
    """The proof that leaf `index` is in the tree of `size` leaves: at most 63 hashes, those next to the leaf first.

    Raises ValueError unless 0 <= index < size.
    """
    if not 0 <= index < size < LARGEST:
        raise ValueError(f"there is no leaf {index} in a tree of {size}")
    start, end, proof = 0, size, []
    while end - start > 1:
        middle = start + _left_of(end - start)
        if index < middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start = middle
    return proof[::-1]


def consistency(read: Read, old: int, new: int) -> list[bytes]:
    """The proof that the tree of `new` leaves begins with that of `old`; empty when they are equal or `old` is 0.

    Raises ValueError unless 0 <= old <= new.
    """
    if not 0 <= old <= new < LARGEST:
        raise ValueError(f"a tree of {new} leaves cannot begin with one of {old}")
    if old in {0, new}:
        return []
    start, end, proof, whole = 0, new, [], True
    while old != end:
        middle = start + _left_of(end - start)
        if old <= middle:
            proof.append(_range_root(read, middle, end))
            end = middle
        else:
            proof.append(_range_root(read, start, middle))
            start, whole = middle, False
    # The verifier has the old root itself, unless the old tree is made of several subtrees.
    if not whole:
        proof.append(_range_root(read, start, end))
    return proof[::-1]


def _left_of(count: int) -> int:
    """How many of `count` > 1 leaves are in the left subtree: the largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def is_included(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that this leaf hash stands at `index` in the tree with this root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size < LARGEST or not _are_hashes(leaf, root, *proof):
        return False
    at, last, node = index, size - 1, leaf
    for other in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = node_hash(other, node)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            node = node_hash(node, other)
        at, last = at >> 1, last >> 1
    return last == 0 and node == root


def is_consistent(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` shows that the tree of `new` leaves begins with that of `old` (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new < LARGEST or not _are_hashes(old_root, new_root, *proof):
        return False
    if old == new:
        return not proof and old_root == new_root and (old > 0 or old_root == EMPTY_ROOT)
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = [old_root, *proof] if old & old - 1 == 0 else list(proof)
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for other in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            first, second = node_hash(other, first), node_hash(other, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, other)
        at, last = at >> 1, last >> 1
    return last == 0 and first == old_root and second == new_root


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


# -- tiles -----------------------------------------------------------------------------------------------------------


def tile_path(level: int, tile: int, width: int = TILE_WIDTH) -> str:
    """The path of a tile, partial when `width` < 256: `tile/0/x001/x234/067`, `tile/1/000.p/17`."""
    text = f"{tile:03d}"
    text = text.zfill(-(-len(text) // 3) * 3)
    groups = [text[at : at + 3] for at in range(0, len(text), 3)]
    path = f"tile/{level}/{'/'.join([*('x' + group for group in groups[:-1]), groups[-1]])}"
    return path if width == TILE_WIDTH else f"{path}.p/{width}"


def tile_of(path: str, size: int) -> tuple[int, int, int] | None:
    """Level, first hash and number of hashes of the tile at this path, for `Read`.

    None when no such tile belongs to a tree of `size` leaves, or when the path is written in any other way than
    `tile_path` writes it.
    """
    match = _TILE_PATH.fullmatch(path) if len(path) < 64 else None
    if match is None:
        return None
    level, tile = int(match[1]), int(match[2].replace("/", "").replace("x", ""))
    width = int(match[3] or TILE_WIDTH)
    start = tile * TILE_WIDTH
    there = level < LEVELS and start + width <= size >> level * _TILE_HEIGHT
    return (level, start, width) if there and path == tile_path(level, tile, width) else None
