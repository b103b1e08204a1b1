"""The tree in files: whenever the process ends, and whatever a file holds, one signed state or a sentence."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.books.checkpoint import Checkpoint, Signer
from intake.books.tree import Edge, consistency, inclusion, is_consistent, is_included, leaf_hash, root
from intake.books.tree_files import Files, Levels, SignedTree, Unusable, first_difference, published_checkpoint

ORIGIN = "hoso24.example/books"
SIGNER = Signer(ORIGIN, bytes(range(32)))
LOG = [leaf_hash(b"%d" % number) for number in range(3_000)]
"""The log that the tree follows: leaf n is always the same."""


def key(number: int) -> bytes:
    return number.to_bytes(24)


def roots() -> list[bytes]:
    """The root at every size of LOG."""
    edge, found = Edge(), []
    for leaf in LOG:
        found.append(edge.root())
        edge.append(leaf)
    return [*found, edge.root()]


ROOTS = roots()


def follow(tree: SignedTree, count: int) -> None:
    """Append the log's next leaves and sign, as the notary does: the state says where it goes on."""
    start = tree.size
    for number in range(start, start + count):
        tree.append(LOG[number], key(number))
    tree.sign({"next": tree.size})


def grown(files: Files, *counts: int) -> SignedTree:
    tree = SignedTree.begin(files, SIGNER, {"next": 0})
    for count in counts:
        follow(tree, count)
    return tree


@contextmanager
def opened(files: Files) -> Iterator[SignedTree]:
    tree = SignedTree.open(files, SIGNER)
    try:
        yield tree
    finally:
        tree.close()


def check(tree: SignedTree, files: Files) -> None:
    """Everything that holds of a tree that was just opened."""
    size = tree.checkpoint.size
    assert tree.size == size == tree.position["next"]
    assert tree.root() == tree.checkpoint.root == ROOTS[size]
    assert published_checkpoint(files, SIGNER.key) == tree.checkpoint
    levels = tree.levels()
    assert root(levels.read, size) == ROOTS[size]
    assert first_difference(levels) is None
    assert [levels.key(tile) for tile in range(size // 256)] == [key(tile * 256 + 255) for tile in range(size // 256)]


# -- on a disk ---------------------------------------------------------------------------------------------------------


def test_tree_is_what_it_was_after_each_start(tmp_path: Path) -> None:
    grown(Files(tmp_path), 1).close()
    for count in (254, 1, 1, 255, 0, 600, 700):
        with opened(Files(tmp_path)) as tree:
            check(tree, Files(tmp_path))
            follow(tree, count)
            check(tree, Files(tmp_path))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "checkpoint",
        "keys",
        "level/0",
        "level/1",
        "state",
    ]


def test_proofs_are_made_from_the_files_of_a_tree_that_goes_on_growing(tmp_path: Path) -> None:
    tree = grown(Files(tmp_path), 700)
    old = tree.checkpoint
    for number in range(700, 1_300):
        tree.append(LOG[number], key(number))
    reader = Levels(Files(tmp_path), old.size)
    assert is_included(LOG[5], 5, 700, inclusion(reader.read, 5, 700), old.root)
    tree.sign({"next": 1_300})
    new = Levels(Files(tmp_path), 1_300)
    assert is_consistent(700, 1_300, consistency(new.read, 700, 1_300), old.root, tree.checkpoint.root)
    assert is_included(LOG[5], 5, 700, inclusion(reader.read, 5, 700), old.root)
    tree.close()


def test_tiles_are_ranges_of_the_files(tmp_path: Path) -> None:
    tree = grown(Files(tmp_path), 700)
    tree.append(LOG[700], key(700))
    levels = tree.levels()
    assert levels.tile("tile/0/001") == b"".join(LOG[256:512])
    assert levels.tile("tile/0/002.p/188") == b"".join(LOG[512:700])
    assert levels.tile("tile/0/002.p/189") is None  # appended, and not signed
    assert levels.tile("tile/1/000.p/2") == ROOTS[256] + Levels(Files(tmp_path), 700).read(1, 1, 1)
    assert levels.tile("tile/1/000.p/3") is levels.tile("tile/2/000.p/1") is levels.tile("state") is None
    tree.close()


def test_what_was_not_signed_is_forgotten(tmp_path: Path) -> None:
    tree = grown(Files(tmp_path), 300)
    for number in range(20_000):  # more than is held in memory
        tree.append(leaf_hash(b"other %d" % number), key(number))
    tree.close()
    assert (tmp_path / "level/0").stat().st_size > 300 * 32
    with opened(Files(tmp_path)) as again:
        check(again, Files(tmp_path))
        follow(again, 700)
        check(again, Files(tmp_path))


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    tree = grown(Files(tmp_path))
    for number in range(30_000):
        tree.append(LOG[number % 3_000], key(number))
        assert sum(map(len, tree._held.values())) <= 300 * 1024
    tree.close()


def test_second_notary_says_so(tmp_path: Path) -> None:
    tree = grown(Files(tmp_path), 10)
    for start in (SignedTree.open, SignedTree.begin):
        with pytest.raises(Unusable) as refusal:
            start(Files(tmp_path), SIGNER)
        assert str(refusal.value) == (
            f"Another process, the notary that runs already, writes the books in {tmp_path}: stop it first."
        )
    follow(tree, 10)
    tree.close()
    with opened(Files(tmp_path)) as again:
        assert again.size == 20


@pytest.mark.servers
def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from intake.books.tree_files import Files\n"
        "Files(Path(sys.argv[1])).lock(); print('locked', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(Unusable, match="stop it first"):
            Files(tmp_path).lock()
        other.kill()
    Files(tmp_path).lock()


def test_new_tree_begins_only_where_none_is(tmp_path: Path) -> None:
    with pytest.raises(Unusable, match=r"has no file state: a new tree begins with --first"):
        SignedTree.open(Files(tmp_path), SIGNER)
    grown(Files(tmp_path), 5).close()
    with pytest.raises(Unusable, match=r"holds a tree already \(its file state\): start without --first"):
        SignedTree.begin(Files(tmp_path), SIGNER)
    (tmp_path / "state").unlink()
    with pytest.raises(Unusable, match=r"its file checkpoint"):
        SignedTree.begin(Files(tmp_path), SIGNER)
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(Unusable, match=r"its file level/0"):
        SignedTree.begin(Files(tmp_path), SIGNER)


def test_full_disk_leaves_the_signed_state_whole(tmp_path: Path) -> None:
    """A real limit on the size of a file, at every byte where a batch can meet it, roughly."""
    grown(Files(tmp_path), 600).close()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (0, 100, 600 * 32, 600 * 32 + 1, 600 * 32 + 4_000, 1_200 * 32 - 1):
        tree = SignedTree.open(Files(tmp_path), SIGNER)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                follow(tree, 600)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        with pytest.raises(RuntimeError, match="open the directory again"):
            tree.sign({})
        with pytest.raises(RuntimeError, match="open the directory again"):
            tree.append(LOG[0], key(0))
        tree.close()
        with opened(Files(tmp_path)) as again:
            assert again.size == 600
            check(again, Files(tmp_path))
    with opened(Files(tmp_path)) as again:
        follow(again, 600)
        check(again, Files(tmp_path))


# -- hostile files -----------------------------------------------------------------------------------------------------


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def cut(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])


def future_state(directory: Path) -> None:
    """A state of a larger tree than the files hold, rightly signed."""
    other = directory / "other"
    other.mkdir()
    grown(Files(other), 600, 600).close()
    (directory / "state").write_bytes((other / "state").read_bytes())


def older_state(directory: Path) -> None:
    other = directory / "other"
    other.mkdir()
    grown(Files(other), 300).close()
    (directory / "state").write_bytes((other / "state").read_bytes())


def two_trees(directory: Path) -> None:
    (directory / "checkpoint").write_text(Checkpoint(ORIGIN, 600, bytes(32)).signed(SIGNER))


def other_key(directory: Path) -> None:
    state = (directory / "state").read_text()
    old, new = (Checkpoint(ORIGIN, 600, ROOTS[600]).signed(each) for each in (SIGNER, Signer(ORIGIN, bytes(32))))
    state = state.replace(old.replace("\n", "\\n"), new.replace("\n", "\\n"))
    (directory / "state").write_text(state)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda at: flip(at / "level/0", 599 * 32), "do not have the root that was signed at 600 leaves"),
        (lambda at: flip(at / "level/0", 512 * 32 + 7), "do not have the root that was signed at 600 leaves"),
        (lambda at: flip(at / "level/1", 40), "do not have the root that was signed at 600 leaves"),
        (
            lambda at: cut(at / "level/0", 599 * 32),
            "file level/0 is cut short: the signed tree of 600 leaves needs 19,200",
        ),
        (lambda at: cut(at / "level/0", 600 * 32 - 1), "file level/0 is cut short"),
        (lambda at: cut(at / "level/0", 0), "file level/0 is cut short"),
        (lambda at: (at / "level/0").unlink(), "file level/0 is cut short"),
        (lambda at: cut(at / "level/1", 32), "file level/1 is cut short"),
        (lambda at: (at / "level/1").unlink(), "file level/1 is cut short"),
        (lambda at: cut(at / "keys", 47), "file keys is cut short"),
        (lambda at: cut(at / "state", 0), "file state in .* cannot be used"),
        (lambda at: cut(at / "state", 100), "file state in .* cannot be used"),
        (lambda at: flip(at / "state", 60), "file state in .* cannot be used"),
        (lambda at: (at / "state").write_text('{"checkpoint": 5, "position": 1}'), "file state in .* cannot be used"),
        (lambda at: (at / "state").unlink(), "has no file state"),
        (lambda at: flip(at / "checkpoint", 30), "file checkpoint in .* cannot be used"),
        (lambda at: cut(at / "checkpoint", 30), "file checkpoint in .* cannot be used"),
        (lambda at: (at / "checkpoint").write_bytes(b"\xff" * 200_000), "file checkpoint in .* cannot be used"),
        (other_key, "file state in .* cannot be used: the signature|file state in .* is not signed by"),
        (future_state, "file level/0 is cut short: the signed tree of 1,200 leaves needs 38,400 bytes"),
        (older_state, "checkpoint of 600 leaves was published, and the file state in .* has 300"),
        (two_trees, "Two trees of 600 leaves were signed"),
    ],
)
def test_damaged_files_are_named_and_not_gone_on_with(
    tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    grown(Files(tmp_path), 300, 300).close()
    damage(tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for _ in range(2):  # the second time too, so the lock was given back
        with pytest.raises(Unusable, match=says):
            SignedTree.open(Files(tmp_path), SIGNER)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_bit_in_a_full_tile_is_found_by_reading_all(tmp_path: Path) -> None:
    grown(Files(tmp_path), 600).close()
    flip(tmp_path / "level/0", 5 * 32)
    with opened(Files(tmp_path)) as tree:  # the edge does not touch this tile
        levels = tree.levels()
        assert first_difference(levels) == "hash 0 of level/1 is not the root of the tile below it"
        proof = inclusion(levels.read, 7, 600)
        assert not is_included(LOG[7], 7, 600, proof, tree.checkpoint.root)


def test_missing_checkpoint_is_published_again(tmp_path: Path) -> None:
    tree = grown(Files(tmp_path), 300)
    older = tree.note
    follow(tree, 300)
    tree.close()
    damages: list[Callable[[Path], object]] = [Path.unlink, lambda at: at.write_text(older)]
    for damage in damages:
        damage(tmp_path / "checkpoint")
        with opened(Files(tmp_path)) as again:
            check(again, Files(tmp_path))


# -- the end of the process between any two operations, and of the machine ---------------------------------------------


class ProcessEnded(BaseException):
    """kill -9."""


class Contents:
    """One file: what processes see of it, and what is on the disk for certain."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.safe = b""


class Disk(Files):
    """The same operations in memory, for one life of a process on a disk.

    The life ends at operation `ends_at`: before it, after it, or with half of what it writes; or the operation fails
    there, as on a full disk. `left_by_power` is what a machine finds that lost its power then.
    """

    def __init__(
        self, seen: dict[str, Contents] | None = None, ends_at: int | None = None, how: str = "before"
    ) -> None:
        super().__init__(Path("/books"))
        self.seen = seen or {}
        self.safe = dict(self.seen)
        for contents in self.seen.values():
            contents.safe = bytes(contents.seen)
        self.operations = 0
        self._ends_at = ends_at
        self._how = how

    def _operation(self, do: Callable[[], Any] = lambda: None, half: Callable[[], Any] = lambda: None) -> Any:
        self.operations += 1
        if self.operations - 1 != self._ends_at:
            return do()
        if self._how == "after":
            do()
        if self._how in {"half", "full"}:
            half()
        raise OSError(28, "No space left on device") if self._how == "full" else ProcessEnded

    def lock(self) -> None:
        self._operation()

    def unlock(self) -> None:
        pass

    def size(self, path: str) -> int | None:
        size: int | None = self._operation(lambda: len(self.seen[path].seen) if path in self.seen else None)
        return size

    def read(self, path: str, start: int = 0, count: int | None = None) -> bytes:
        def do() -> bytes:
            if path not in self.seen:
                raise FileNotFoundError(path)
            return bytes(self.seen[path].seen[start : None if count is None else start + count])

        data: bytes = self._operation(do)
        return data

    def write(self, path: str, data: bytes, start: int = 0) -> None:
        def do(part: bytes = data) -> None:
            file = self.seen.setdefault(path, Contents()).seen
            file.extend(bytes(max(0, start - len(file))))
            file[start : start + len(part)] = part

        self._operation(do, lambda: do(data[: len(data) // 2]))

    def cut(self, path: str) -> None:
        def do() -> None:
            self.seen.setdefault(path, Contents()).seen.clear()

        self._operation(do)

    def sync(self, path: str) -> None:
        def do() -> None:
            if path not in {".", "level"}:
                self.seen[path].safe = bytes(self.seen[path].seen)
                return
            for name in {*self.safe, *self.seen}:
                if name.startswith("level/") == (path == "level"):
                    self.safe.pop(name, None)
                    if name in self.seen:
                        self.safe[name] = self.seen[name]

        self._operation(do)

    def rename(self, old: str, new: str) -> None:
        def do() -> None:
            self.seen[new] = self.seen.pop(old)

        self._operation(do)

    def make_directory(self, path: str) -> None:
        self._operation()

    def left_by_power(self, random: Random) -> dict[str, Contents]:
        """Each name as it is on the disk or as processes saw it, each file likewise, or torn in between."""
        left: dict[str, Contents] = {}
        for name in {*self.safe, *self.seen}:
            contents = random.choice([self.safe, self.seen]).get(name)
            if contents is not None:
                found = left[name] = Contents()
                torn = random.randrange(len(contents.seen) + 1)
                found.seen = bytearray(
                    random.choice([contents.safe, contents.seen, contents.seen[:torn] + contents.safe[torn:]])
                )
        return left


class History:
    """A tree through the lives of its processes, and every checkpoint that left it."""

    def __init__(self) -> None:
        self.seen: dict[str, Contents] = {}
        self.leaves: list[bytes] = []
        self.promised: dict[int, bytes] = {}
        """Size → root of every checkpoint that was published or returned."""

    def live(self, number: int, counts: list[int], ends_at: int | None, how: str, random: Random) -> bool:
        """One process: it opens or begins, appends these counts of leaves, and may end. True when it did not end.

        Leaves carry the life's number: after a life that ended, the log may be another one behind the signed state.
        """
        disk = Disk(self.seen, ends_at, how)
        possible = [self.leaves]
        ended = False
        try:
            begun = "state" in self.seen
            tree = SignedTree.open(disk, SIGNER) if begun else SignedTree.begin(disk, SIGNER, {"next": 0})
            assert tree.size == tree.position["next"] == len(self.leaves)
            for count in counts:
                leaves = possible[-1] + [leaf_hash(b"%d.%d" % (number, at)) for at in range(count)]
                possible.append(leaves)
                for at in range(tree.size, len(leaves)):
                    tree.append(leaves[at], key(at))
                self._note(Checkpoint.opened(tree.sign({"next": tree.size}).encode(), SIGNER.key))
                assert tree.root() == tree.checkpoint.root
                possible = possible[-1:]
        except (ProcessEnded, OSError):
            ended = True
            if "checkpoint" in disk.seen:
                self._note(Checkpoint.opened(bytes(disk.seen["checkpoint"].seen), SIGNER.key))
        power = ended and how == "power"
        self.seen = disk.left_by_power(random) if power else disk.seen
        self._check(possible)
        return not ended

    def _note(self, checkpoint: Checkpoint) -> None:
        assert self.promised.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root

    def _check(self, possible: list[list[bytes]]) -> None:
        """What the next process finds is one of the possible trees, whole, and every promise holds in it."""
        if "state" not in self.seen:
            assert not self.promised
            return
        disk = Disk(deepcopy(self.seen))
        tree = SignedTree.open(disk, SIGNER)
        (self.leaves,) = {len(leaves): leaves for leaves in possible if len(leaves) == tree.size}.values()
        read = tree.levels().read
        assert read(0, 0, tree.size) == b"".join(self.leaves)
        edge = Edge()
        for leaf in self.leaves:
            edge.append(leaf)
        assert tree.checkpoint.root == edge.root() == root(read, tree.size)
        assert tree.position == {"next": tree.size}
        assert published_checkpoint(disk, SIGNER.key) == tree.checkpoint
        assert first_difference(tree.levels()) is None
        for size, promised in self.promised.items():
            assert root(read, size) == promised


HOW = ["before", "half", "after", "full", "power"]


@pytest.mark.parametrize("how", HOW)
def test_process_that_ends_at_any_operation_leaves_the_old_state_or_the_new_one(how: str) -> None:
    for counts, batch in (([], [3]), ([250], [10]), ([255], [1]), ([10], [0])):
        before, ends_at, whole = History(), 0, False
        for number, count in enumerate(counts):
            assert before.live(number, [count], None, how, Random(0))
        while not whole:
            history = deepcopy(before)
            whole = history.live(7, batch, ends_at, how, Random(ends_at))
            assert history.live(8, [7], None, how, Random(0))
            ends_at += 1
        assert ends_at > 10


class EndsAt(Files):
    """Files on a disk whose process ends before one of their operations. No power is lost, so nothing is synced."""

    def __init__(self, directory: Path, ends_at: int) -> None:
        super().__init__(directory)
        self.rest = ends_at

    def _count(self) -> None:
        if self.rest == 0:
            raise ProcessEnded
        self.rest -= 1

    def lock(self) -> None:
        self._count()
        super().lock()

    def size(self, path: str) -> int | None:
        self._count()
        return super().size(path)

    def read(self, path: str, start: int = 0, count: int | None = None) -> bytes:
        self._count()
        return super().read(path, start, count)

    def write(self, path: str, data: bytes, start: int = 0) -> None:
        self._count()
        super().write(path, data, start)

    def cut(self, path: str) -> None:
        self._count()
        super().cut(path)

    def sync(self, path: str) -> None:
        self._count()

    def rename(self, old: str, new: str) -> None:
        self._count()
        super().rename(old, new)

    def make_directory(self, path: str) -> None:
        self._count()
        super().make_directory(path)


def test_files_are_read_by_all_and_written_by_the_notary_alone(tmp_path: Path) -> None:
    """A server of files that runs as another user publishes them."""
    files = Files(tmp_path)
    before = os.umask(0)
    try:
        files.write("written", b"x")
        files.cut("cut")
    finally:
        os.umask(before)
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in ("written", "cut")} == {0o644}


def test_files_on_a_disk_end_as_those_in_memory(tmp_path: Path) -> None:
    ends_at = 0
    sizes: list[int] = []
    while 300 not in sizes[-1:]:
        directory = tmp_path / str(ends_at)
        directory.mkdir()
        files = EndsAt(directory, ends_at)
        try:
            grown(files, 200, 100).close()
        except ProcessEnded:
            files.unlock()
        if (directory / "state").exists():
            with opened(Files(directory)) as tree:
                check(tree, Files(directory))
                sizes.append(tree.size)
        ends_at += 1
    assert sizes == sorted(sizes)
    assert {*sizes} == {0, 200, 300}


LIVES = st.lists(
    st.tuples(
        st.lists(st.sampled_from([0, 1, 2, 30, 255, 256, 300]), max_size=3),
        st.integers(0, 60),
        st.sampled_from(HOW),
        st.integers(0, 2**32),
    ),
    max_size=5,
)


@given(LIVES)
def test_any_interleaving_of_appends_and_ends_gives_the_tree_of_the_log(
    lives: list[tuple[list[int], int, str, int]],
) -> None:
    history = History()
    for number, (counts, ends_at, how, seed) in enumerate(lives):
        history.live(number, counts, ends_at, how, Random(seed))
    assert history.live(99, [1, 255, 300], None, "before", Random(0))
    assert len(history.leaves) >= 556
