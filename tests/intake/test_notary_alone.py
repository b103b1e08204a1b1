"""The notary without servers: whatever writers do, and whenever it ends, one entry for each event and one history."""

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from copy import copy, deepcopy
from datetime import UTC, datetime
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from intake.books import notary
from intake.books.checkpoint import Checkpoint, Signer
from intake.books.entries import Position, Turn, read_turns, refused_leaf, unreadable_leaf
from intake.books.notary import Notary
from intake.books.seal import EventRecord, SealKeys, event_leaf_hash
from intake.books.tree import Edge, root
from intake.books.tree_files import Files, SignedTree
from ops.errors import Unavailable
from tests.conftest import SEAL_KEYS
from tests.intake.test_tree_files import HOW, Contents, Disk, ProcessEnded

ORIGIN = "hoso24.example/books"
SIGNER = Signer(ORIGIN, bytes(range(32)))
KEYS = SealKeys.from_text(SEAL_KEYS)
OTHER_KEYS = SealKeys.from_text("other:" + "0f" * 32)
AT = datetime(2026, 11, 30, 5, tzinfo=UTC)
SALT = bytes(16)


class Over(BaseException):
    """The script has ended, and nothing is left to enter."""


class Log:
    """A database as far as the notary sees it. Each look runs the next step of the script first."""

    def __init__(self) -> None:
        self.trouble = ""
        self.rows: list[tuple[Any, ...]] = []
        self.open: dict[int, list[tuple[Any, ...]]] = {}
        self.xid = 700
        self.seq = 0
        self.versions = 0
        self.epochs = [1]
        self.script: Iterator[Callable[[], None]] = iter(())
        self.kept: list[tuple[list[tuple[Any, ...]], int, list[int]]] = []

    # -- what writers and operators do

    def row(self, xid: int, epoch: int, *, bulk: bool = False, keys: SealKeys = KEYS, readable: bool = True) -> Any:
        self.seq += 1
        self.versions += 1
        event = EventRecord(
            epoch=epoch, code="G99.01.01-261130-00001", version=self.versions, kind="moved", bulk=bulk,
            occurred_at=AT, recorded_at=AT, source="test", status=4, agency="G99.01.01", origin="G99.01.01",
        )  # fmt: skip
        *values, salt, seal = event.row(SALT, keys)
        return (xid, self.seq, readable, *values, salt, None, seal)

    def begin(self, count: int = 1, **how: Any) -> int:
        """A transaction that has written this many events; its id."""
        self.xid += 1
        self.open[self.xid] = [self.row(self.xid, self.epochs[-1], **how) for _ in range(count)]
        return self.xid

    def finish(self, xid: int, *, commit: bool = True) -> None:
        rows = self.open.pop(xid)
        if commit:
            self.rows += rows

    def write(self, count: int = 1, **how: Any) -> None:
        self.finish(self.begin(count, **how))

    def keep(self) -> None:
        """What a backup has of this moment."""
        self.kept.append((list(self.rows), self.xid, list(self.epochs)))

    def restore(self) -> None:
        """The newest backup: what came later is gone, and ids are assigned a second time."""
        rows, self.xid, epochs = self.kept[-1]
        self.rows, self.epochs = list(rows), list(epochs)
        self.open.clear()
        self.cut()

    def cut(self) -> None:
        raise Unavailable("postgres cannot be reached now.")

    def renew(self) -> None:
        self.epochs.append(self.epochs[-1] + 1)

    def __deepcopy__(self, _: Any) -> "Log":
        """Rows never change."""
        other = Log()
        other.__dict__ |= {name: copy(value) for name, value in self.__dict__.items() if name != "script"}
        return other

    # -- what the notary asks

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        yield

    async def look(self, position: Position, _: float) -> Any:
        step = next(self.script, None)
        if step is not None:
            self.steps += 1
            step()
        readable = min(self.open, default=self.xid + 1)
        above = [row for row in self.rows if _place(row) > position]
        newer = [epoch for epoch in self.epochs if epoch > position.epoch]
        done = not newer and not [row for row in above if row[0] < readable and row[3] == position.epoch]
        if step is None and done and self.at_rest:
            raise Over
        self.at_rest = step is None and done
        return {
            "readable": readable,
            "unassigned": self.xid + 1,
            "next": min(newer, default=None),
            "newest": self.epochs[-1],
            "behind": 1.0 if above else None,
        }

    at_rest = False
    steps = 0

    async def events(self, after: Position, before: Position, most: int) -> Sequence[Any]:
        return sorted((row for row in self.rows if after < _place(row) < before), key=_place)[:most]

    async def has_ids_from_elsewhere(self, epoch: int, unassigned: int) -> bool:
        return any(row[3] == epoch and row[0] >= unassigned for row in self.rows)


def _place(row: Any) -> Position:
    return Position(row[3], row[0], row[1])


@functools.cache
def leaf_of(row: Any) -> bytes:
    """What an event of the log is in the tree, by the rule and not by the notary's code."""
    _, _, readable, *values, salt, erased, seal = row
    if not readable:
        return refused_leaf(unreadable_leaf(values[1], values[2]))
    leaf = event_leaf_hash(values, salt, erased)
    return leaf if KEYS.sealed_by(leaf, seal) else refused_leaf(leaf)


class Story:
    """A log, a disk, and the notaries that lived on it one after the other."""

    def __init__(self) -> None:
        self.log = Log()
        self.seen: dict[str, Contents] = {}
        self.promised: dict[int, bytes] = {}
        self.clock = 0.0
        self._halted = False
        disk = Disk(self.seen)
        notary.begin(disk, SIGNER)
        self.seen = disk.seen

    def live(
        self,
        *script: Callable[[], None],
        ends_at: int | None = None,
        how: str = "before",
        batch: int = 3,
        keys: Callable[[], SealKeys] = lambda: KEYS,
        most_looks: int = 10_000,
    ) -> bool:
        """A notary until the script is over and all is entered, or its process ended.

        True when nothing happened to it: neither its process nor an operation ended at `ends_at`.
        """
        self.log.script, self.log.at_rest, self.log.steps = iter(script), False, 0
        disk = Disk(self.seen, ends_at, how)
        log, looks = self.log, 0

        class Watched(Log):
            """Notes what is published at each look."""

            async def look(watched, position: Position, turn_after: float) -> Any:  # noqa: N805
                nonlocal looks
                looks += 1
                if looks > most_looks:
                    raise Over
                self.note(disk)
                return await log.look(position, turn_after)

        watched = Watched()
        watched.events, watched.has_ids_from_elsewhere = log.events, log.has_ids_from_elsewhere  # type: ignore[method-assign]
        works = Notary(
            watched,  # type: ignore[arg-type]
            lambda: disk,
            SIGNER,
            keys,
            poll_every=0,
            retry_every=0,
            batch=batch,
            clock=self.tick,
        )
        try:
            asyncio.run(works.run())
        except Over:
            return ends_at is None or disk.operations <= ends_at
        except ProcessEnded:
            return False
        finally:
            self._halted, self.log.script = works.halted, iter(())
            self.note(disk)
            power = how == "power" and ends_at is not None
            self.seen = disk.left_by_power(Random(ends_at)) if power else disk.seen
        raise AssertionError("it ended by itself")

    def is_halted(self) -> bool:
        """Whether the last notary was at its end."""
        return self._halted

    def tick(self) -> float:
        self.clock += 0.001
        return self.clock

    def note(self, disk: Files) -> None:
        if "checkpoint" in disk.seen:  # type: ignore[attr-defined]
            seen = bytes(disk.seen["checkpoint"].seen)  # type: ignore[attr-defined]
            checkpoint = Checkpoint.opened(seen, SIGNER.key)
            assert self.promised.setdefault(checkpoint.size, checkpoint.root) == checkpoint.root

    def opened(self) -> tuple[SignedTree, list[bytes], list[Turn]]:
        """The tree, its leaves, and its turns; every promise holds in it."""
        tree = SignedTree.open(Disk(deepcopy(self.seen)), SIGNER)
        read, size = tree.levels().read, tree.size
        for promised, hashed in self.promised.items():
            assert promised <= size
            assert root(read, promised) == hashed
        hashes = read(0, 0, size)
        turns = self.seen["turns"].seen if "turns" in self.seen else b""
        return tree, [hashes[at : at + 32] for at in range(0, len(hashes), 32)], read_turns(bytes(turns), size)

    def check(self) -> list[Turn]:
        """One entry for each event, in order, and for each entry an event, but for turns and what they say is void."""
        tree, leaves, turns = self.opened()
        ordered = sorted(self.log.rows, key=_place)
        void = {index for turn in turns for first, last in turn.void for index in range(first, last + 1)}
        kept = [leaf for index, leaf in enumerate(leaves) if index not in void]
        assert sorted(kept) == sorted([*map(leaf_of, ordered), *(turn.leaf for turn in turns)])
        if not turns:
            assert leaves == list(map(leaf_of, ordered))
        places = {leaf_of(row): _place(row) for row in ordered}
        late = {index for turn in turns for index in range(turn.size + 1, turn.end)}
        in_order = [places[leaf] for index, leaf in enumerate(leaves) if index not in void | late and leaf in places]
        assert in_order == sorted(in_order)
        for turn in turns:
            assert leaves[turn.size] == turn.leaf
            of_turn = [places.get(leaf) for leaf in leaves[turn.size + 1 : turn.end]]
            assert [place for place in of_turn if place] == sorted(place for place in of_turn if place)
        edge = Edge()
        for leaf in leaves:
            edge.append(leaf)
        assert edge.root() == tree.checkpoint.root
        keys = [tree.levels().key(tile) for tile in range(tree.size // 256)]
        for tile, key in enumerate(keys):
            place = places.get(leaves[tile * 256 + 255])
            assert place is None or Position.of_key(key) == place
        return turns


# -- writers, rollbacks, imports, and a notary that is stopped and killed ----------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 9), st.booleans()),
        st.tuples(st.just("begin"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("finish"), st.integers(0, 9), st.booleans()),
        st.tuples(st.just("cut")),
        st.tuples(st.just("kill"), st.integers(0, 40), st.sampled_from(HOW)),
        st.tuples(st.just("stop")),
    ),
    max_size=30,
)


def run(story: Story, steps: Sequence[tuple[Any, ...]], batch: int) -> None:
    """Live one notary after another through the steps; at the end every transaction is over."""
    log = story.log

    def act(step: tuple[Any, ...]) -> None:
        match step:
            case ("write", count, bulk):
                log.write(count, bulk=bulk)
            case ("begin", count, bulk):
                log.begin(count, bulk=bulk)
            case ("finish", number, commit) if log.open:
                log.finish(list(log.open)[number % len(log.open)], commit=commit)
            case ("restore",) if log.kept:
                log.restore()
            case ("keep",):
                log.keep()
            case ("renew",):
                log.renew()
            case ("cut",):
                log.cut()

    script: list[Callable[[], None]] = []
    for step in (*steps, ("stop",)):
        if step[0] in {"kill", "stop"}:
            ends_at, how = step[1:] or (None, "before")
            story.live(*script, ends_at=ends_at, how=how, batch=batch)
            for left in script[log.steps :]:  # the process ended before: the world goes on
                with contextlib.suppress(Unavailable):
                    left()
            script = []
        else:
            script.append(lambda step=step: act(step))  # type: ignore[misc]
    for xid in list(log.open):
        log.finish(xid, commit=bool(xid & 1))


@given(STEPS, st.sampled_from([1, 2, 3, 100]))
def test_tree_is_that_of_the_sorted_log(steps: list[tuple[Any, ...]], batch: int) -> None:
    story = Story()
    run(story, steps, batch)
    assert story.live(batch=batch)
    assert story.check() == []


@pytest.mark.long
@pytest.mark.parametrize("how", HOW)
def test_process_that_ends_at_any_operation_is_followed_by_one_that_goes_on(how: str) -> None:
    """Over tiles' edges, and through a restore, whose turn is one signature."""
    for grown, lost, late in ((0, 0, 0), (250, 0, 0), (300, 40, 5)):
        before = Story()
        before.log.write(grown)
        before.log.keep()
        before.log.write(lost)
        assert before.live()
        if late:
            with contextlib.suppress(Unavailable):
                before.log.restore()
            before.log.write(late)
            before.log.renew()
        ends_at, whole = 0, False
        while not whole:
            story = deepcopy(before)
            story.log.write(4)
            whole = story.live(ends_at=ends_at, how=how, batch=3)
            story.log.write(3)
            assert story.live(how=how, batch=100)
            turns = story.check()
            assert [(turn.epoch, turn.late) for turn in turns] == ([(2, late)] if late else [])
            assert sum(last - first + 1 for turn in turns for first, last in turn.void) == lost
            ends_at += 1
        assert ends_at > 20


def test_interrupted_database_at_any_question_changes_nothing() -> None:
    for cut_at in range(12):
        story = Story()
        writes = [functools.partial(story.log.write, 4)] * 6
        assert story.live(*writes[:cut_at], story.log.cut, *writes[cut_at:])
        assert story.check() == []


# -- a database that went back in time ---------------------------------------------------------------------------------

RESTORES = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(1, 300), st.booleans()),
        st.tuples(st.just("write"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("keep")),
        st.tuples(st.just("restore")),
        st.tuples(st.just("renew")),
        st.tuples(st.just("stop")),
    ),
    max_size=25,
)


@pytest.mark.long
@given(RESTORES, st.sampled_from([3, 100, 5_000]))
def test_whatever_is_restored_nothing_signed_is_taken_back(steps: list[tuple[Any, ...]], batch: int) -> None:
    """As operators do it: after a restore, writers go on in the old epoch until it is renewed; then all is in order."""
    story = Story()
    log, numbers = story.log, [1]

    def renew() -> None:
        log.epochs.append(max(numbers) + 1)
        numbers.append(log.epochs[-1])

    log.renew = renew  # type: ignore[method-assign]
    for step in steps:
        match step:
            case ("write", count, bulk):
                log.write(count, bulk=bulk)
            case ("keep",):
                log.keep()
            case ("restore",) if log.kept:
                story.live(batch=batch, most_looks=200)
                with contextlib.suppress(Unavailable):
                    log.restore()
                story.live(batch=batch, most_looks=20)  # it halts, or there is nothing to see
                log.write(3)
                story.live(batch=batch, most_looks=20)
                renew()
                log.kept.clear()
            case ("renew",):
                renew()
            case ("stop",):
                story.live(batch=batch, most_looks=200)
    assert story.live(batch=batch)
    story.check()


def restored(grown: int, lost: int, late: int) -> Story:
    """Books whose newest entries have lost their events, and a log that went on under the same ids."""
    story = Story()
    story.log.write(grown)
    story.log.keep()
    for _ in range(lost):
        story.log.write()
    assert story.live()
    with contextlib.suppress(Unavailable):
        story.log.restore()
    for _ in range(late):
        story.log.write()
    return story


@pytest.mark.parametrize(
    ("grown", "lost", "late"), [(10, 1, 0), (10, 300, 20), (700, 300, 20), (300, 900, 20), (256, 256, 256), (0, 9, 9)]
)
def test_restore_halts_until_the_epoch_is_renewed(grown: int, lost: int, late: int, caplog: Any) -> None:
    story = restored(grown, lost, late)
    before = story.opened()[1]
    with caplog.at_level(logging.CRITICAL, logger="intake.books.notary"):
        story.live(most_looks=5)
    assert story.is_halted()
    assert REGISTRY.get_sample_value("notary_halted") == 1
    (line,) = {record.getMessage() for record in caplog.records}
    assert line.startswith(
        f"The notary enters nothing: {lost:,} entries of the books, from entry {grown:,} on, have no event in the "
    )
    assert "hoso24 cache renew" in line
    assert story.opened()[1] == before, "something was entered"
    story.log.renew()
    story.log.write(2)
    assert story.live()
    assert not story.is_halted()
    assert REGISTRY.get_sample_value("notary_halted") == 0
    (turn,) = story.check()
    assert turn.void == [(grown, grown + lost - 1)]
    assert (turn.epoch, turn.size, turn.late) == (2, grown + lost, late)


def test_halted_notary_goes_on_by_itself() -> None:
    story = restored(300, 20, 5)
    assert story.live(*[lambda: None] * 4, story.log.renew, lambda: story.log.write(3))
    assert [turn.late for turn in story.check()] == [5]


def test_second_restore_beyond_the_first_one() -> None:
    """The epoch of the books is gone from the database; it has to be renewed until there is a newer one."""
    story = restored(300, 20, 5)
    story.log.renew()
    story.log.write(3)
    assert story.live()
    with contextlib.suppress(Unavailable):
        story.log.restore()
    for epochs in ([1], [1, 2]):  # the second is another epoch 2
        assert story.log.epochs == epochs
        story.live(most_looks=5)
        assert story.is_halted()
        story.log.renew()
        story.log.write(4)
    story.log.rows[-4:] = []
    story.log.write(1)
    assert story.live()
    first, second = story.check()
    assert (first.epoch, second.epoch) == (2, 3)
    assert second.void == [(321, 328)]
    assert second.late == 4


def test_restore_that_takes_only_the_epoch_back_halts() -> None:
    story = Story()
    story.log.write(300)
    story.log.keep()
    assert story.live(story.log.renew)
    with contextlib.suppress(Unavailable):
        story.log.restore()
    story.log.write(2)
    story.live(most_looks=5)
    assert story.is_halted()
    assert story.opened()[0].size == 301


def test_epoch_renewed_without_a_loss_is_a_turn_without_void_or_late_entries() -> None:
    story = Story()
    story.log.write(300)
    assert story.live(story.log.renew, lambda: story.log.write(3), story.log.renew, lambda: story.log.write(300))
    assert [(turn.epoch, turn.void, turn.late) for turn in story.check()] == [(2, [], 0), (3, [], 0)]


@pytest.mark.parametrize(("unread", "early"), [(0, 5), (40, 5), (200, 5), (0, 200)])
def test_database_made_from_a_dump_assigns_ids_anew(unread: int, early: int) -> None:
    story = Story()
    for _ in range(300):
        story.log.write(2)
    assert story.live()
    for _ in range(unread):
        story.log.write()
    story.log.xid = 750  # of a new cluster
    for _ in range(early):
        story.log.write()  # before the epoch is renewed, under ids that old events have too
    story.live(most_looks=5)
    assert story.is_halted()
    story.log.renew()
    story.log.write(3)
    assert story.live()
    for _ in range(6):  # later starts compare from within the turn on, and from behind it
        story.log.write(90)
        assert story.live()
    (turn,) = story.check()
    assert (turn.void, turn.late) == ([], unread + early)
    assert turn.since > 0


def test_event_written_under_an_earlier_id_is_entered_after_a_restart() -> None:
    story = Story()
    story.log.write(300)
    story.log.write(10)
    assert story.live()
    early = story.log.row(700, 1, keys=OTHER_KEYS)
    story.log.rows.append((story.log.rows[-3][0], 299 + 5, *early[2:]))
    story.log.rows[-1] = (700 + 1, 10_000, *early[2:])
    assert story.live(lambda: story.log.write(2))
    (turn,) = story.check()
    assert (turn.epoch, turn.void, turn.late) == (1, [], 1)


# -- seals -------------------------------------------------------------------------------------------------------------


def refused() -> float:
    return REGISTRY.get_sample_value("notary_refused_total") or 0.0


def test_event_that_no_key_fits_is_refused_at_once_and_named_by_its_hash(caplog: Any) -> None:
    story, before = Story(), refused()
    story.log.write(2)
    with caplog.at_level(logging.ERROR, logger="intake.books.notary"):
        assert story.live(
            lambda: story.log.write(keys=OTHER_KEYS),
            lambda: story.log.write(2),
            lambda: story.log.write(readable=False),
        )
    story.check()
    assert refused() == before + 2
    lines = [record for record in caplog.records if "Refused an event" in record.getMessage()]
    assert [record.version for record in lines] == [3, 6]
    assert all(len(record.code_hash) == 16 for record in lines)
    assert "G99.01.01" not in caplog.text
    assert story.live()  # they have their entry, and are not refused again
    assert refused() == before + 2


def test_flood_of_refused_events_is_named_up_to_a_limit(caplog: Any) -> None:
    story = Story()
    story.log.write(1)
    with caplog.at_level(logging.ERROR, logger="intake.books.notary"):
        assert story.live(lambda: story.log.write(100, keys=OTHER_KEYS), batch=1_000)
    assert len(caplog.records) == notary.NAMED + 1
    assert caplog.records[-1].getMessage() == "Refused 80 more events that no seal key fits"


def test_keys_are_read_again_before_an_event_is_refused() -> None:
    story, before, keys = Story(), refused(), [KEYS]
    story.log.write(3)
    both = SealKeys.from_text(f"other:{'0f' * 32},{SEAL_KEYS}")

    def rotate() -> None:
        keys[0] = both
        story.log.write(3, keys=OTHER_KEYS)

    assert story.live(rotate, keys=lambda: keys[0])
    assert refused() == before


@pytest.mark.parametrize("begun", [False, True])
def test_wrong_keys_refuse_nothing_and_are_said_in_one_sentence(begun: bool, caplog: Any) -> None:
    story, before = Story(), refused()
    story.log.write(3)
    if begun:
        assert story.live()
    with caplog.at_level(logging.CRITICAL, logger="intake.books.notary"):
        story.live(keys=lambda: OTHER_KEYS, most_looks=4)
    assert story.is_halted()
    (line,) = {record.getMessage() for record in caplog.records}
    assert "fit none of HOSO24_SEAL_KEYS: these are not the keys of intake and imports" in line
    assert refused() == before
    assert story.live()
    story.check()


# -- the clock, and what is kept ---------------------------------------------------------------------------------------


def test_clock_that_jumps_takes_nothing_back() -> None:
    story = Story()
    jumps = [lambda by=by: setattr(story, "clock", story.clock + by) for by in (100, -5_000, 70, 1e6, -1e6, 61)]
    script = [step for jump in jumps for step in (lambda: story.log.write(5), jump, lambda: story.log.write(5))]
    assert story.live(*script, batch=100)
    assert story.check() == []
    notes = bytes(story.seen["checkpoints"].seen)
    sizes = [int(line) for line in notes.decode().splitlines()[1::5]]
    assert sizes == sorted(set(sizes))
    assert len(sizes) > 1


def test_new_checkpoint_is_kept_and_logged_once_a_minute(caplog: Any) -> None:
    story = Story()

    def minutes(count: float) -> Callable[[], None]:
        return lambda: setattr(story, "clock", story.clock + 60 * count)

    def write() -> None:
        story.log.write(2)

    with caplog.at_level(logging.INFO, logger="intake.books.notary"):
        assert story.live(write, write, write, minutes(1), write, minutes(3), minutes(1), write, batch=100)
    lines = [record for record in caplog.records if record.getMessage().startswith("The books have")]
    notes = bytes(story.seen["checkpoints"].seen).decode()
    kept = ["\n".join(notes.split("\n")[at : at + 5]) + "\n" for at in range(0, notes.count("\n"), 5)]
    assert [Checkpoint.opened(note.encode(), SIGNER.key).size for note in kept] == [4, 6, 8, 10]
    for line, note in zip(lines, kept, strict=True):
        checkpoint = Checkpoint.opened(note.encode(), SIGNER.key)
        text = Checkpoint(line.origin, int(line.getMessage().split()[3]), bytes.fromhex(line.root)).text
        assert text == checkpoint.text
        assert SIGNER.key.fits(text.encode(), bytes.fromhex(line.signature)[4:])
