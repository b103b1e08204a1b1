"""The log held against the tree: leaves from left to right, and beside them the events in the order of the log.

Between the positions of two tiles (file `keys`) stand as many events as leaves. An event finds its leaf by its hash, so
whatever was put in, taken out or exchanged, all others still find theirs; what is left over is told at the end, when it
is known whether an event only stands in another place. Memory is constant: a page of leaves and its events, and at most
MOST_OPEN that are left over.
"""

import asyncio
import itertools
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from intake.books.checkpoint import Checkpoint, NotACheckpoint, VerifierKey
from intake.books.entries import BEGINNING, Position, Turn, read_turns, refused_leaf, unreadable_leaf
from intake.books.notary import EVENTS, EVENTS_WITH_UNREADABLE
from intake.books.published import Books
from intake.books.seal import event_leaf_hash
from intake.books.tree import HASH_BYTES, TILE_WIDTH, Edge, consistency, is_consistent

TILES: Final = 20
"""Tiles of a page: 5,120 leaves."""
OVERDUE: Final = timedelta(minutes=1)
"""An event that is older and not in the books is a finding. The notary needs less than a second."""
MOST_OPEN: Final = 50_000
STANDBY_SECONDS: Final = 30
"""How long a standby may take to come as far as the books."""

# Behind the signed position. What is old, and before what no open transaction can commit, should be in the books.
BEHIND = """
SELECT count(*)                                                                      AS waiting,
       now() - min(recorded_at)                                                      AS oldest,
       count(*) FILTER (WHERE overdue)                                               AS overdue,
       min(recorded_at::text || ' ' || code || ' ' || version) FILTER (WHERE overdue) AS first
  FROM (SELECT code, version, recorded_at,
               xid < pg_snapshot_xmin(pg_current_snapshot()) AND recorded_at < now() - $4::interval AS overdue
          FROM (SELECT * FROM event WHERE NOT bulk AND (epoch, xid, seq) > ($1::integer, $2::xid8, $3::bigint)
                 UNION ALL
                SELECT * FROM event WHERE bulk AND (epoch, xid, seq) > ($1::integer, $2::xid8, $3::bigint)) AS behind
       ) AS dated
"""

SERVER = """
SELECT now() AS now, pg_is_in_recovery() AS standby, pg_snapshot_xmin(pg_current_snapshot()) AS xmin,
       (SELECT array_agg(number ORDER BY number) FROM epoch) AS epochs
"""

Report = Callable[[str], None]
Progress = Callable[[str, int, int], None]
"""`progress(what, done, of)`."""
Touched = Callable[[list[str]], Awaitable[None]]


class CannotVerify(Exception):
    """Something that the comparison needs is missing or of no use; the message is one sentence."""


class Kept(NamedTuple):
    """A checkpoint that somebody kept: a signed note, and what to call it."""

    name: str
    note: bytes


class _Segment(NamedTuple):
    """Leaves first … end - 1 are events of one epoch, but for turns within it and what came late with them."""

    epoch: int
    first: int
    end: int


class _Stretch(NamedTuple):
    """Leaves first … end - 1 are the events between two positions, both excluded. `open`: their end is not known."""

    first: int
    end: int
    after: Position
    before: Position
    last: bool = False
    open: bool = False


class _Extra(NamedTuple):
    """An event without a leaf, and the leaf that stands where it stands."""

    leaf: bytes
    name: str
    place: int
    at: Position
    recorded_at: datetime | None


@dataclass
class Followed:
    """How much of the log was held against the tree."""

    checkpoint: Checkpoint
    start: int = 0
    """The first leaf that was looked at."""
    events: int = 0
    turns: Sequence[Turn] = ()
    void: int = 0
    late: int = 0
    waiting: int = 0
    """Events that are not in the books yet."""
    oldest: timedelta = timedelta()
    """The age of the oldest of them."""


@dataclass
class _Page:
    """One stretch while its events come in."""

    first: int
    end: int
    leaves: dict[bytes, int]
    """Leaf → its index, of those that have not found their event."""
    found: list[tuple[int, str]] = field(default_factory=list)
    """Index and name of events that have found their leaf, in the log's order."""
    times: dict[int, datetime] = field(default_factory=dict)
    extra: list[_Extra] = field(default_factory=list)
    before_last: int = 0
    """How many of `extra` stood before the last event that found its leaf."""


class Walk:
    """One comparison. Use it once."""

    def __init__(self, connection: Any, books: Books, key: VerifierKey, found: Report, progress: Progress) -> None:
        """Raises CannotVerify and CannotRead: the newest checkpoint is read here, before anything else."""
        self._connection = connection
        self._books = books
        self._key = key
        self._found = found
        self._progress = progress
        try:
            newest = Checkpoint.opened(books.checkpoint(), key)
        except NotACheckpoint as wrong:
            raise CannotVerify(f"The checkpoint in {books.place} cannot be used: {wrong}.") from None
        self.result = Followed(newest)
        self._size = newest.size
        self._read = books.hashes(newest.size)
        self._edge = Edge()
        self._roots: dict[int, list[tuple[str, bytes]]] = {}
        self._expect(f"the checkpoint in {books.place}", newest)
        self._without: list[tuple[int, int]] = []
        """Leaves that have no event in their place: ranges of the first and the last."""
        self._late: dict[bytes, int] = {}
        self._open_leaves: dict[bytes, int] = {}
        self._open_events: list[_Extra] = []
        self._times: dict[int, datetime] = {}
        """When events were recorded that stand next to a leaf without one."""
        self._wanted: set[int] = set()
        """Of `_times`, what the next page has."""
        self._newest: dict[int, datetime] = {}
        self._reached = Position(0, 0, 0)

    async def follow(self, kept: Sequence[Kept], since: Kept | None, touched: Touched | None) -> Followed:
        """Compare everything, or what came after `since`. `touched` gets the codes of each page of events.

        Raises CannotVerify, CannotRead, and what the connection raises.
        """
        self._server = await self._when_the_standby_is_there()
        segments = self._segments()
        if since is not None:
            self._begin_at(since)
        for each in kept:
            self._keep(each)
        for segment in segments:
            if segment.end < self.result.start:
                continue
            for stretch in self._stretches(segment):
                await self._compare(segment.epoch, stretch, touched)
        self._grow(self._size)
        if not self.result.start:  # else their events were not all looked at
            self._open_leaves |= self._late
        self._settle()
        await self._behind()
        return self.result

    # -- checkpoints and roots --

    def _begin_at(self, since: Kept) -> None:
        size = self._keep(since)
        if size is None:
            raise CannotVerify(f"{since.name} is no checkpoint to begin with: verify without --since.")
        start = _floor(size)
        while start and self._is_out_of_place(start - 1):
            start -= TILE_WIDTH
        self.result.start = start
        self._edge = Edge.of(self._read.read, self.result.start)

    def _keep(self, kept: Kept) -> int | None:
        """Have its root compared when the leaves get there; its size. None when it is no checkpoint of these books."""
        try:
            checkpoint = Checkpoint.opened(kept.note, self._key)
        except NotACheckpoint as wrong:
            self._found(f"{kept.name} is no checkpoint of these books: {wrong}.")
            return None
        size, start = checkpoint.size, self.result.start
        if size > self._size:
            self._found(
                f"{kept.name} signs {size:,} leaves, and the books have only {self._size:,}: they were set back."
            )
            return None
        if size < start:
            proof = consistency(self._read.read, size, start)
            if not is_consistent(size, start, proof, checkpoint.root, self._edge.root()):
                self._another_root(kept.name, size)
        else:
            self._expect(kept.name, checkpoint)
        return size

    def _expect(self, name: str, checkpoint: Checkpoint) -> None:
        self._roots.setdefault(checkpoint.size, []).append((name, checkpoint.root))
        if checkpoint.size == self._edge.size:
            self._check_roots()

    def _check_roots(self) -> None:
        for name, signed in self._roots.pop(self._edge.size, ()):
            if signed != self._edge.root():
                self._another_root(name, self._edge.size)

    def _another_root(self, name: str, size: int) -> None:
        self._found(
            f"The first {size:,} leaves of the books do not have the root that {name} signs: leaves were altered, or "
            "it is of another tree."
        )

    def _grow(self, end: int) -> list[bytes]:
        """Take leaves into the tree up to `end`, and compare roots on the way. Their hashes."""
        taken = []
        while self._edge.size < end:
            count = min(end - self._edge.size, TILE_WIDTH - self._edge.size % TILE_WIDTH)
            hashes = self._read.read(0, self._edge.size, count)
            for at in range(0, len(hashes), HASH_BYTES):
                leaf = hashes[at : at + HASH_BYTES]
                taken.append(leaf)
                self._edge.append(leaf)
                if self._edge.size in self._roots:
                    self._check_roots()
        self._progress("leaves", self._edge.size, self._size)
        return taken

    # -- entries that are no events --

    def _segments(self) -> list[_Segment]:
        """The leaves of each epoch. The turns' own leaves are compared here."""
        try:
            turns = read_turns(self._books.turns(), self._size)
        except ValueError as wrong:
            raise CannotVerify(f"The books in {self._books.place} cannot be followed: {wrong}.") from None
        epochs, segments, epoch, first = self._server["epochs"] or [], [], BEGINNING.epoch, 0
        for turn in turns:
            if self._read.read(0, turn.size, 1) != turn.leaf:
                self._found(f"Leaf {turn.size:,} is not the turn to epoch {turn.epoch} that the file turns tells.")
            late = range(turn.size + 1, min(turn.end, self._size))
            hashes = self._read.read(0, late.start, len(late))
            self._late |= {hashes[n * HASH_BYTES : (n + 1) * HASH_BYTES]: index for n, index in enumerate(late)}
            self._without += [*turn.void, (turn.size, turn.end - 1)]
            self.result.void += sum(last - first + 1 for first, last in turn.void)
            self.result.late += len(late)
            if turn.epoch > epoch:
                segments.append(_Segment(epoch, first, turn.size))
                segments += [_Segment(number, turn.size, turn.size) for number in epochs if epoch < number < turn.epoch]
                epoch, first = turn.epoch, min(turn.end, self._size)
        self._without.sort()
        self.result.turns = turns
        return [*segments, _Segment(epoch, first, self._size)]

    def _has_none(self, index: int) -> bool:
        """Whether this leaf is a turn, came late with one, or is void since one."""
        at = bisect_right(self._without, (index, self._size)) - 1
        return at >= 0 and index <= self._without[at][1]

    # -- events --

    def _stretches(self, segment: _Segment) -> Iterator[_Stretch]:
        """The pages of a segment. Each ends with a tile, whose position is known, but for the last."""
        first = max(segment.first, self.result.start)
        after = Position(segment.epoch, 0, 0) if first == segment.first else self._position(first)
        while end := self._end_of_page(first, segment.end):
            upto = self._position(end)
            if upto.epoch != segment.epoch or upto < after:
                self._found(f"The file keys is out of order at tile {end // TILE_WIDTH - 1:,}: it was damaged.")
                upto = after
            yield _Stretch(first, end, after, upto._replace(seq=upto.seq + 1))
            first, after = end, upto
        last = segment.end == self._size
        if not last or first < segment.end:
            signed = self._books.position(self._size) if last else None
            before = signed._replace(seq=signed.seq + 1) if signed else Position(segment.epoch + 1, 0, 0)
            yield _Stretch(first, segment.end, after, before, last, last and signed is None)
        else:
            self._reached = after

    def _end_of_page(self, first: int, end: int) -> int | None:
        """The last end of a tile in the page that begins here; an event has to stand there in its place."""
        ends = range(min(_floor(first) + TILES * TILE_WIDTH, _floor(end)), first, -TILE_WIDTH)
        return next((at for at in ends if not self._is_out_of_place(at - 1)), None)

    def _is_out_of_place(self, index: int) -> bool:
        """Whether this leaf is a turn, or came late with one."""
        return any(turn.size <= index < turn.end for turn in self.result.turns)

    def _position(self, end: int) -> Position:
        """Of the last leaf before `end`, which ends a tile."""
        return Position.of_key(self._read.key(end // TILE_WIDTH - 1))

    async def _compare(self, epoch: int, stretch: _Stretch, touched: Touched | None) -> None:
        self._grow(stretch.first)
        leaves, counted = self._grow(stretch.end), self.result.events
        for _ in range(STANDBY_SECONDS):
            self.result.events = counted
            page = _Page(stretch.first, stretch.end, {leaf: n for n, leaf in enumerate(leaves, stretch.first)})
            if self._without:
                page.leaves = {leaf: n for leaf, n in page.leaves.items() if not self._has_none(n)}
            await self._take_events(page, stretch, touched)
            if not (page.leaves and stretch.last and self._server["standby"]):
                break
            await asyncio.sleep(1)
        self._end(page, stretch)

    async def _take_events(self, page: _Page, stretch: _Stretch, touched: Touched | None) -> None:
        after, limit = stretch.after, max(stretch.end - stretch.first, 1_000) + 1
        while True:
            events = await self._read_events(after, stretch.before, limit)
            before = len(page.found)
            for event in events:
                self._take(page, event)
            if touched is not None and events:
                await touched(sorted({event["code"] for event in events}))
            if len(events) < limit or (stretch.open and (not page.leaves or len(page.found) == before)):
                return
            after = Position(after.epoch, events[-1]["xid"], events[-1]["seq"])

    async def _read_events(self, after: Position, before: Position, limit: int) -> Sequence[Any]:
        try:
            found: Sequence[Any] = await self._connection.fetch(EVENTS, *after, *before, limit)
        except (ValueError, OverflowError):  # a time that only PostgreSQL knows
            found = await self._connection.fetch(EVENTS_WITH_UNREADABLE, *after, *before, limit)
        return found

    def _take(self, page: _Page, event: Any) -> None:
        """An event finds its leaf, in this page or among those that came late, or it does not."""
        xid, seq, readable, *values, salt, erased, _ = event
        epoch, code, version = values[:3]
        name, at = f"event {version} of {code}", Position(epoch, xid, seq)
        try:
            leaf = event_leaf_hash(values, salt, erased) if readable else unreadable_leaf(code, version)
        except ValueError:  # no salt, or one of another length
            leaf = unreadable_leaf(code, version)
        index = self._leaf(page, leaf)
        if index is None:
            index = self._leaf(page, refused_leaf(leaf))
            if index is None:
                page.extra.append(_Extra(leaf, name, self._place(page), at, event["recorded_at"]))
                return
            self._found(f"{name} was refused by the notary: no key of the intake sealed it (leaf {index:,}).")
        self.result.events += 1
        if page.first <= index < page.end:
            page.found.append((index, name))
            if event["recorded_at"]:
                page.times[index] = event["recorded_at"]
            page.before_last = len(page.extra)
            self._reached = at

    def _leaf(self, page: _Page, leaf: bytes) -> int | None:
        index = page.leaves.pop(leaf, None)
        return self._late.pop(leaf, None) if index is None else index

    def _place(self, page: _Page) -> int:
        """Of an event without a leaf: the leaf behind that of the event before."""
        if len(page.extra) > page.before_last:
            place = page.extra[-1].place + 1
        else:
            place = page.found[-1][0] + 1 if page.found else page.first
        while self._has_none(place):
            place += 1
        return place

    def _end(self, page: _Page, stretch: _Stretch) -> None:
        """What is left over of a page is kept until the end."""
        if stretch.open:  # events behind the last that has a leaf are new, but for an old one in place of a lost one
            lost, old = set(page.leaves.values()), self._server["now"] - OVERDUE
            news = page.extra[page.before_last :]
            page.extra[page.before_last :] = [
                each for each in news if each.place in lost and each.recorded_at and each.recorded_at < old
            ]
            self._reached = max([self._reached, stretch.after, *(each.at for each in page.extra)])
        elif stretch.last:
            self._reached = stretch.before._replace(seq=stretch.before.seq - 1)
        self.result.events += len(page.extra)
        for index, name in _out_of_order(page.found):
            self._tell_order(name, index)
        near = {index + step for index in page.leaves.values() for step in (-1, 1)} | self._wanted
        times = self._newest | page.times
        self._times |= {index: times[index] for index in near & times.keys()}
        if page.times:
            last = max(page.times)
            self._newest = {last: page.times[last]}
        self._wanted = near & {page.end}
        self._open_leaves |= page.leaves
        self._open_events += page.extra
        if len(self._open_leaves) + len(self._open_events) > MOST_OPEN:
            self._settle()

    def _settle(self) -> None:
        """Tell what is left over: in another place, altered, put in, taken out."""
        lost = {index: leaf for leaf, index in self._open_leaves.items()}
        for extra in self._open_events:
            index = self._open_leaves.get(extra.leaf)
            if index is not None:
                del lost[index]
                self._tell_order(extra.name, index)
            elif extra.place in lost:
                del lost[extra.place]
                self._found(
                    f"{extra.name} was altered: the books have another one in its place (leaf {extra.place:,})."
                )
            else:
                self._found(f"{extra.name} is not in the books, and the log has it before events that are.")
        for first, last in _runs(sorted(lost)):
            which = counted(last - first + 1, "entry has", "entries have")
            leaves = f"leaf {first:,}" if first == last else f"leaves {first:,} to {last:,}"
            self._found(f"{which} no event any more, {leaves}{self._recorded(first, last)}.")
        self._open_leaves.clear()
        self._open_events.clear()
        self._times.clear()

    def _tell_order(self, name: str, index: int) -> None:
        self._found(
            f"{name} stands in another place of the log than in the books (leaf {index:,}): the order was changed."
        )

    def _recorded(self, first: int, last: int) -> str:
        before, after = self._times.get(first - 1), self._times.get(last + 1)
        words = [
            f"after {before:%Y-%m-%d %H:%M:%S}" if before else "",
            f"before {after:%Y-%m-%d %H:%M:%S}" if after else "",
        ]
        told = " and ".join(word for word in words if word)
        return f", recorded {told} UTC" if told else ""

    async def _behind(self) -> None:
        """Events behind the signed position: new ones, and those that the notary should have taken."""
        row = await self._connection.fetchrow(BEHIND, *self._reached, OVERDUE)
        self.result.waiting, self.result.oldest = row["waiting"], row["oldest"] or timedelta()
        if row["overdue"]:
            *_, code, version = row["first"].split()
            verb = "is" if row["overdue"] == 1 else "are"
            self._found(
                f"{counted(row['overdue'], 'event')} of more than a minute ago {verb} not in the books, the oldest is "
                f"event {version} of {code}: does the notary run?"
            )

    async def _when_the_standby_is_there(self) -> Any:
        """The server, when it has the events of every full tile."""
        xid = self._position(_floor(self._size)).xid if self._size >= TILE_WIDTH else 0
        for _ in range(STANDBY_SECONDS):
            server = await self._connection.fetchrow(SERVER)
            if not server["standby"] or server["xmin"] > xid:
                return server
            await asyncio.sleep(1)
        raise CannotVerify(f"The standby has been behind the books for {STANDBY_SECONDS} s: ask the primary, or wait.")


def counted(count: int, one: str, many: str = "") -> str:
    """`1 event`, `2,000 events`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _floor(index: int) -> int:
    return index // TILE_WIDTH * TILE_WIDTH


def _runs(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of neighbours."""
    first = last = None
    for index in indices:
        if last is None or index != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = index
        last = index
    if first is not None and last is not None:
        yield first, last


def _out_of_order(found: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """The fewest of these without which the rest is in order."""
    if all(left[0] < right[0] for left, right in itertools.pairwise(found)):
        return []
    # The longest increasing run: `ends` has the last member of the best run of each length.
    ends: list[int] = []
    before: list[int | None] = []
    chosen: list[int] = []
    for n, (index, _) in enumerate(found):
        length = bisect_right(ends, index)
        before.append(chosen[length - 1] if length else None)
        ends[length : length + 1], chosen[length : length + 1] = [index], [n]
    kept, at = set(), chosen[-1] if chosen else None
    while at is not None:
        kept.add(at)
        at = before[at]
    return [each for n, each in enumerate(found) if n not in kept]
