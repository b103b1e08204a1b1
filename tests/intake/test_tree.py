"""The tree of RFC 9162: its published vectors, and every size beside a tree that is computed as the RFC defines it."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.books.tree import (
    EMPTY_ROOT,
    HASH_BYTES,
    LARGEST,
    Edge,
    Read,
    consistency,
    inclusion,
    is_consistent,
    is_included,
    leaf_hash,
    node_hash,
    root,
    tile_of,
    tile_path,
)

# -- the slow tree: RFC 9162, 2.1.1 to 2.1.4, word for word -----------------------------------------------------------


def split(count: int) -> int:
    k = 1
    while k * 2 < count:
        k *= 2
    return k


class SlowTree:
    """Every function of the RFC over a list of leaf hashes, each range computed once."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.leaves = leaves
        self._known: dict[tuple[int, int], bytes] = {}

    def mth(self, start: int, end: int) -> bytes:
        if end == start:
            return hashlib.sha256(b"").digest()
        if end - start == 1:
            return self.leaves[start]
        if (start, end) not in self._known:
            middle = start + split(end - start)
            both = self.mth(start, middle) + self.mth(middle, end)
            self._known[start, end] = hashlib.sha256(b"\1" + both).digest()
        return self._known[start, end]

    def path(self, m: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + split(end - start)
        if m < middle:
            return [*self.path(m, start, middle), self.mth(middle, end)]
        return [*self.path(m, middle, end), self.mth(start, middle)]

    def subproof(self, m: int, start: int, end: int, whole: bool) -> list[bytes]:
        if m == end:
            return [] if whole else [self.mth(start, end)]
        middle = start + split(end - start)
        if m <= middle:
            return [*self.subproof(m, start, middle, whole), self.mth(middle, end)]
        return [*self.subproof(m, middle, end, False), self.mth(start, middle)]


class LevelsInMemory:
    """What an edge gave out, as flat levels."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self.edge = Edge()
        self.levels = [bytearray() for _ in range(8)]
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        self.levels[0] += leaf
        for level, node in self.edge.append(leaf):
            self.levels[level] += node

    def read(self, level: int, start: int, count: int) -> bytes:
        assert (start + count) * HASH_BYTES <= len(self.levels[level])
        return bytes(self.levels[level][start * HASH_BYTES : (start + count) * HASH_BYTES])


def numbered(count: int) -> list[bytes]:
    return [leaf_hash(b"%d" % number) for number in range(count)]


@pytest.fixture(scope="module")
def slow() -> SlowTree:
    return SlowTree(numbered(65_537))


@pytest.fixture(scope="module")
def read(slow: SlowTree) -> Read:
    return LevelsInMemory(slow.leaves).read


# -- published vectors ------------------------------------------------------------------------------------------------

LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
"""The leaves of the test vectors that implementations of RFC 6962 and 9162 share."""

ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]

PATHS = {
    (0, 1): [],
    (0, 8): [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ],
    (5, 8): [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 3): ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"],
    (1, 5): [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}

GROWTHS = {
    (1, 1): [],
    (1, 8): PATHS[0, 8],
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size: int) -> None:
    tree = LevelsInMemory([leaf_hash(data) for data in LEAVES[:size]])
    assert tree.edge.root().hex() == root(tree.read, size).hex() == ROOTS[size]


def test_inclusion_proofs_are_the_published_ones() -> None:
    tree = LevelsInMemory([leaf_hash(data) for data in LEAVES])
    for (index, size), hashes in PATHS.items():
        proof = inclusion(tree.read, index, size)
        assert [node.hex() for node in proof] == hashes
        assert is_included(leaf_hash(LEAVES[index]), index, size, proof, bytes.fromhex(ROOTS[size]))


def test_consistency_proofs_are_the_published_ones() -> None:
    tree = LevelsInMemory([leaf_hash(data) for data in LEAVES])
    for (old, new), hashes in GROWTHS.items():
        proof = consistency(tree.read, old, new)
        assert [node.hex() for node in proof] == hashes
        assert is_consistent(old, new, proof, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[new]))


# -- every size beside the slow tree ----------------------------------------------------------------------------------

SIZES = [*range(1, 601), 65_535, 65_536, 65_537]


def test_every_root_is_that_of_the_slow_tree(slow: SlowTree, read: Read) -> None:
    growing = LevelsInMemory()
    assert growing.edge.root() == EMPTY_ROOT == root(read, 0)
    for size, leaf in enumerate(slow.leaves, 1):
        growing.append(leaf)
        if size in {*SIZES}:
            assert growing.edge.root() == root(read, size) == Edge.of(read, size).root() == slow.mth(0, size)
    assert [len(level) // HASH_BYTES for level in growing.levels] == [65_537, 256, 1, 0, 0, 0, 0, 0]


def test_edge_that_was_read_again_grows_as_the_one_that_was_not(slow: SlowTree, read: Read) -> None:
    for size in (0, 255, 256, 257, 600):
        edge, gained = Edge.of(read, size), []
        for leaf in slow.leaves[size:1_100]:
            gained += edge.append(leaf)
        assert edge.root() == slow.mth(0, 1_100)
        tiles = range(size // 256, 4)
        assert gained == [(1, slow.mth(tile * 256, tile * 256 + 256)) for tile in tiles]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 100, 255, 256, 257, 511, 512, 600, 65_535, 65_536, 65_537])
def test_every_inclusion_proof_is_that_of_the_slow_tree(slow: SlowTree, read: Read, size: int) -> None:
    top = slow.mth(0, size)
    for index in {*range(0, size, max(1, size // 150)), size - 1, size // 2}:
        proof = inclusion(read, index, size)
        assert proof == slow.path(index, 0, size)
        assert is_included(slow.leaves[index], index, size, proof, top)


@pytest.mark.parametrize("new", [1, 2, 7, 64, 255, 256, 257, 600, 65_535, 65_536, 65_537])
def test_every_consistency_proof_is_that_of_the_slow_tree(slow: SlowTree, read: Read, new: int) -> None:
    top = slow.mth(0, new)
    for old in {0, new, *range(1, new, max(1, new // 150)), *(2**n for n in range(17) if 2**n <= new)}:
        proof = consistency(read, old, new)
        if old:
            assert proof == slow.subproof(old, 0, new, True)
        assert is_consistent(old, new, proof, slow.mth(0, old), top)


@given(st.data())
def test_no_other_proof_is_taken(slow: SlowTree, read: Read, data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 600))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion(read, index, size)
    top, leaf = slow.mth(0, size), slow.leaves[index]
    at = data.draw(st.integers(0, len(proof) - 1))
    flipped = bytearray(proof[at])
    flipped[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
    others = [
        [*proof[:at], bytes(flipped), *proof[at + 1 :]],
        [*proof[:at], *proof[at + 1 :]],
        [*proof, proof[at]],
        [*proof, slow.mth(0, size)],
        [*proof[:at], proof[at][:31], *proof[at + 1 :]],
        [*proof, *proof[:0], b""],
    ]
    assert [is_included(leaf, index, size, other, top) for other in others] == [False] * len(others)
    assert not is_included(slow.leaves[(index + 1) % size], index, size, proof, top)
    assert not is_included(leaf, index, size, proof, leaf)
    assert not is_included(leaf, index + size, size, proof, top)
    assert not is_included(leaf, -1, size, proof, top)
    # Right hashes, but for a tree of another height.
    assert not is_included(leaf, index, size * 2, proof, top)
    assert not is_included(leaf, index, size, [*proof, top], node_hash(top, top))
    old = data.draw(st.integers(1, size - 1))
    growth = consistency(read, old, size)
    assert not is_consistent(old, size, growth, slow.mth(0, old), slow.mth(1, size))
    assert not is_consistent(old, size, growth, slow.mth(1, old + 1), top)
    assert not is_consistent(old, size, growth[:-1], slow.mth(0, old), top)
    assert not is_consistent(old, size, [*growth, top], slow.mth(0, old), top)
    assert not is_consistent(size, old, growth, top, slow.mth(0, old))
    assert not is_consistent(old, size * 2, growth, slow.mth(0, old), top)
    assert not is_consistent(old, size, [*growth, top], node_hash(top, slow.mth(0, old)), node_hash(top, top))
    assert not is_consistent(old, size, [], slow.mth(0, old), top)


def test_trees_that_differ_in_one_early_leaf_are_not_consistent() -> None:
    leaves = numbered(300)
    honest, other = LevelsInMemory(leaves), LevelsInMemory([leaves[0], leaf_hash(b"other"), *leaves[2:]])
    old = LevelsInMemory(leaves[:200])
    for tree, fits in ((honest, True), (other, False)):
        proof = consistency(tree.read, 200, 300)
        assert is_consistent(200, 300, proof, old.edge.root(), tree.edge.root()) is fits


def test_what_is_no_part_of_a_tree_is_refused(read: Read) -> None:
    for index, size in ((1, 1), (-1, 1), (0, 0), (5, 3), (LARGEST, LARGEST + 1)):
        with pytest.raises(ValueError, match="there is no leaf"):
            inclusion(read, index, size)
    for old, new in ((2, 1), (-1, 1), (1, LARGEST)):
        with pytest.raises(ValueError, match="cannot begin with"):
            consistency(read, old, new)
    with pytest.raises(ValueError, match="a tree of 3 leaves has an edge of 2 hashes, not 1"):
        Edge(3, [EMPTY_ROOT])
    assert not is_consistent(0, 5, [], node_hash(EMPTY_ROOT, EMPTY_ROOT), EMPTY_ROOT)
    assert not is_consistent(0, 0, [], bytes(32), bytes(32))
    assert is_consistent(0, 5, [], EMPTY_ROOT, bytes(32))


# -- tiles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "size", "tile"),
    [
        ("tile/0/000", 256, (0, 0, 256)),
        ("tile/0/000", 255, None),
        ("tile/0/000.p/255", 255, (0, 0, 255)),
        ("tile/0/000.p/1", 70_000, (0, 0, 1)),
        # The example of tlog-tiles: 273 full tiles, one of 112; one full tile, one of 17; one of 1.
        ("tile/0/272", 70_000, (0, 272 * 256, 256)),
        ("tile/0/273.p/112", 70_000, (0, 273 * 256, 112)),
        ("tile/0/273.p/113", 70_000, None),
        ("tile/1/000", 70_000, (1, 0, 256)),
        ("tile/1/001.p/17", 70_000, (1, 256, 17)),
        ("tile/1/001.p/18", 70_000, None),
        ("tile/2/000.p/1", 70_000, (2, 0, 1)),
        ("tile/3/000.p/1", 70_000, None),
        ("tile/0/x001/x234/067", 1_234_068 * 256, (0, 1_234_067 * 256, 256)),
        ("tile/0/1234067", 1_234_068 * 256, None),
        ("tile/0/x001/234/067", 1_234_068 * 256, None),
        ("tile/0/x000/000", 70_000, None),
        ("tile/0/000.p/256", 70_000, None),
        ("tile/0/000.p/0", 70_000, None),
        ("tile/0/000.p/01", 70_000, None),
        ("tile/00/000", 70_000, None),
        ("tile/64/000.p/1", 70_000, None),
        ("tile/8/000.p/1", LARGEST - 1, None),
        ("tile/7/000.p/1", LARGEST - 1, (7, 0, 1)),
        ("tile/0/000/", 70_000, None),
        ("tile/0/../0/000", 70_000, None),
        ("tile/0/٠٠٠", 70_000, None),
        ("tile/0/000\n", 70_000, None),
        ("tile/entries/000", 70_000, None),
        ("tile/0/" + "x999/" * 40 + "999", LARGEST - 1, None),
        ("", 70_000, None),
    ],
)
def test_tile_paths(path: str, size: int, tile: tuple[int, int, int] | None) -> None:
    assert tile_of(path, size) == tile


@given(st.integers(0, 7), st.integers(0, 2**40), st.integers(1, 256))
def test_every_tile_has_one_path(level: int, tile: int, width: int) -> None:
    path = tile_path(level, tile, width)
    expected = (level, tile * 256, width) if (tile * 256 + width) << 8 * level < LARGEST else None
    assert tile_of(path, LARGEST - 1) == expected


def test_each_hash_of_a_tile_is_the_root_of_the_full_tile_below_it(slow: SlowTree, read: Read) -> None:
    level, start, count = tile_of("tile/1/000.p/255", 65_537) or (0, 0, 0)
    hashes = read(level, start, count)
    for number in (0, 1, 17, 254):
        assert hashes[number * 32 : number * 32 + 32] == slow.mth(number * 256, number * 256 + 256)
