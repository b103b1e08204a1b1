"""Proofs of one event, and watching that the books only grow.

A proof is a file of C2SP tlog-proof: the leaf data of the event (`extra`), its index, the hashes next to its way up,
and a signed checkpoint. Who has the public key checks it without database and network.
"""

import base64
import binascii
import os
import re
from bisect import bisect_left
from pathlib import Path
from typing import Any, Final, NamedTuple

from intake.books.checkpoint import Checkpoint, NotACheckpoint, VerifierKey
from intake.books.entries import BEGINNING, Position, Turn, read_turns, refused_leaf
from intake.books.published import Books, CannotRead, Hashes
from intake.books.seal import HASHED_COLUMNS, leaf_data, read_leaf
from intake.books.tree import HASH_BYTES, TILE_WIDTH, consistency, inclusion, is_consistent, is_included, leaf_hash

HEADER: Final = "c2sp.org/tlog-proof@v1"
LONGEST: Final = 1 << 20
"""Bytes of a proof that is read."""

EVENT = f"SELECT xid, seq, salt, erased, {', '.join(HASHED_COLUMNS)} FROM event WHERE code = $1 AND version = $2"

_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})", re.ASCII)


class NotProven(Exception):
    """There is no proof, or it does not hold; one sentence says why."""


class Proven(NamedTuple):
    """What a proof shows: leaf `entry` of the books of `checkpoint` is this event."""

    checkpoint: Checkpoint
    entry: int
    event: dict[str, Any]

    def words(self) -> str:
        """The proof for people: a sentence, and what the event says, a line for each column that is not empty."""
        sentence = (
            f"Entry {self.entry:,} of the {self.checkpoint.size:,} in {self.checkpoint.origin} is event "
            f"{self.event['version']} of {self.event['code']}:"
        )
        said = [f"  {name}: {value}" for name, value in self.event.items() if value not in (None, [])]
        return "\n".join([sentence, *said])


# -- making one --------------------------------------------------------------------------------------------------------


async def prove(connection: Any, books: Books, key: VerifierKey, code: str, version: int) -> str:
    """The proof that this event is in the books, as the text of a file.

    `connection` has the auditor's role. Raises NotProven, CannotRead, and what the connection raises.
    """
    checkpoint, note = _newest(books, key)
    try:
        event = await connection.fetchrow(EVENT, code, version)
    except (ValueError, OverflowError):
        raise NotProven(f"Event {version} of {code} has a time that no program of ours wrote: it is refused.") from None
    if event is None:
        raise NotProven(f"There is no event {version} of {code}.")
    xid, seq, salt, erased, *values = event
    data = leaf_data(values, salt, erased)
    hashes = books.hashes(checkpoint.size)
    try:
        turns = read_turns(books.turns(), checkpoint.size)
    except ValueError as wrong:
        raise CannotRead(f"The books in {books.place} cannot be followed: {wrong}.") from None
    at = Position(event["epoch"], xid, seq)
    leaf = leaf_hash(data)
    index = _index(hashes, turns, checkpoint.size, at, leaf)
    if index is None and _index(hashes, turns, checkpoint.size, at, refused_leaf(leaf)) is not None:
        raise NotProven(f"Event {version} of {code} was refused by the notary: no key of the intake sealed it.")
    if index is None:
        raise NotProven(
            f"Event {version} of {code} is not among {checkpoint.size:,} entries of the books: it is newer, or altered."
        )
    return proof_text(data, index, inclusion(hashes.read, index, checkpoint.size), note)


def proof_text(data: bytes, index: int, proof: list[bytes], note: str) -> str:
    """A proof as its file has it."""
    lines = [HEADER, f"extra {_base64(data)}", f"index {index}", *map(_base64, proof), "", note]
    return "\n".join(lines)


def _index(hashes: Hashes, turns: list[Turn], size: int, at: Position, leaf: bytes) -> int | None:
    """The index of this leaf, which is in its place or came late with a turn."""
    first, epoch = 0, BEGINNING.epoch
    for turn in (*turns, None):
        end = turn.size if turn else size
        if epoch == at.epoch and first < end:
            tiles = range(first // TILE_WIDTH, end // TILE_WIDTH)
            tile = tiles.start + bisect_left(tiles, at, key=lambda tile: Position.of_key(hashes.key(tile)))
            begin = max(first, tile * TILE_WIDTH)
            found = _find(hashes, begin, min(end, (tile + 1) * TILE_WIDTH), leaf)
            if found is not None:
                return found
        if turn:
            found = _find(hashes, turn.size + 1, min(turn.end, size), leaf)
            if found is not None:
                return found
            first, epoch = turn.end, turn.epoch
    return None


def _find(hashes: Hashes, begin: int, end: int, leaf: bytes) -> int | None:
    if begin >= end:
        return None
    found = hashes.read(0, begin, end - begin)
    places = range(0, len(found), HASH_BYTES)
    return next((begin + at // HASH_BYTES for at in places if found[at : at + HASH_BYTES] == leaf), None)


# -- checking one ------------------------------------------------------------------------------------------------------


def check(data: bytes, key: VerifierKey) -> Proven:
    """What this proof shows to who trusts `key`. Raises NotProven."""
    try:
        head, separator, note = data[: LONGEST + 1].decode().partition("\n\n")
    except UnicodeDecodeError:
        raise NotProven("The file is no proof: it is not text.") from None
    lines = head.split("\n")
    if len(data) > LONGEST or not separator or lines[0] != HEADER:
        raise NotProven(f"The file is no proof: it does not begin with {HEADER}, or it is cut short.")
    if len(lines) < 3 or not lines[1].startswith("extra "):
        raise NotProven("The proof does not have the event that it is about.")
    index = _INDEX.fullmatch(lines[2])
    leaf, proof = _bytes(lines[1].removeprefix("extra ")), [_bytes(line) for line in lines[3:]]
    if index is None or leaf is None or None in proof:
        raise NotProven("The file is no proof: a line of it is damaged.")
    try:
        checkpoint = Checkpoint.opened(note.encode(), key)
        event = read_leaf(leaf)
    except NotACheckpoint as wrong:
        raise NotProven(f"The checkpoint in the proof does not hold: {wrong}.") from None
    except ValueError as wrong:
        raise NotProven(f"The proof is not about an event: {wrong}.") from None
    way = [each for each in proof if each is not None]
    if not is_included(leaf_hash(leaf), int(index[1]), checkpoint.size, way, checkpoint.root):
        raise NotProven("The proof does not hold: the checkpoint signs books without this event at this place.")
    return Proven(checkpoint, int(index[1]), event)


# -- watching ----------------------------------------------------------------------------------------------------------


class NotGrown(Exception):
    """Two signed checkpoints that do not fit; the message has a sentence and both."""


def watch(books: Books, key: VerifierKey, state: Path) -> str:
    """Compare the newest checkpoint with the one in `state`, and put it there if the books have only grown.

    Returns a sentence. The first time there is none to compare with. Raises NotGrown, after which `state` is as it was;
    CannotRead; NotProven when `state` has no checkpoint of these books; OSError.
    """
    newest, note = _newest(books, key)
    if not state.exists():
        _keep(state, note)
        return f"Kept the first checkpoint of {newest.origin}: {newest.size:,} entries."
    kept = state.read_bytes()
    try:
        old = Checkpoint.opened(kept, key)
    except NotACheckpoint as wrong:
        raise NotProven(f"{state} has no checkpoint of these books: {wrong}.") from None
    if newest.size < old.size:
        said = f"The books have {newest.size:,} entries and had {old.size:,}: they were set back."
        raise NotGrown(_both(said, kept.decode(), note))
    proof = consistency(books.hashes(newest.size).read, old.size, newest.size)
    if not is_consistent(old.size, newest.size, proof, old.root, newest.root):
        said = f"The books of {newest.size:,} entries do not begin with the {old.size:,} of before: they were altered."
        raise NotGrown(_both(said, kept.decode(), note))
    _keep(state, note)
    return f"The books have grown from {old.size:,} to {newest.size:,} entries, and nothing before was altered."


def _both(sentence: str, kept: str, newest: str) -> str:
    return f"{sentence}\nKeep both checkpoints, which prove it.\n\nkept:\n{kept}\nnewest:\n{newest}"


def _keep(path: Path, note: str) -> None:
    """Put it in place of the other file: whenever the machine stops, there is the old one or the new one."""
    aside = path.with_name(f"{path.name}.new")
    with aside.open("wb") as file:
        file.write(note.encode())
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def _newest(books: Books, key: VerifierKey) -> tuple[Checkpoint, str]:
    note = books.checkpoint()
    try:
        return Checkpoint.opened(note, key), note.decode()
    except NotACheckpoint as wrong:
        raise NotProven(f"The checkpoint in {books.place} cannot be used: {wrong}.") from None


def _base64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes | None:
    """What `_base64` wrote as this text; None when it wrote no such text."""
    try:
        raw = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return None
    return raw if _base64(raw) == text else None
