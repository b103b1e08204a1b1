"""Proofs hold offline and nothing else does; whoever watches keeps a checkpoint, or both that do not fit."""

import base64
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from intake.books.checkpoint import Checkpoint, Signer
from intake.books.erase import erase
from intake.books.proofs import NotGrown, NotProven, check, proof_text, prove, watch
from intake.books.published import CannotRead, books_at
from intake.books.seal import SealKeys
from intake.books.tree import leaf_hash, node_hash
from intake.books.tree_files import Files, SignedTree
from tests.conftest import Database
from tests.intake.test_seal import examples
from tests.intake.written import SIGNER, Entered, Written

LEAF = examples()[1]["leaf_data"].encode()
OTHER = bytes(range(32))


# -- offline -----------------------------------------------------------------------------------------------------------


def proof(data: bytes = LEAF, index: int = 1, signer: Signer = SIGNER) -> str:
    """A proof by hand: leaf 1 of two."""
    root = node_hash(OTHER, leaf_hash(data))
    return proof_text(data, index, [OTHER], Checkpoint(signer.key.name, 2, root).signed(signer))


def test_proof_tells_the_event_in_words() -> None:
    proven = check(proof().encode(), SIGNER.key)
    assert (proven.entry, proven.checkpoint.size, proven.event["version"]) == (1, 2, 2)
    words = proven.words().splitlines()
    assert words[0] == f"Entry 1 of the 2 in hoso24.example/books is event 2 of {proven.event['code']}:"
    assert "  kind: moved" in words
    assert not [line for line in words if line.endswith("None")]


def test_proof_of_a_tree_with_one_leaf_has_no_hashes() -> None:
    note = Checkpoint(SIGNER.key.name, 1, leaf_hash(LEAF)).signed(SIGNER)
    assert check(proof_text(LEAF, 0, [], note).encode(), SIGNER.key).entry == 0


ANOTHER = Signer("another.example/books", bytes(32))
SPOILT: dict[str, tuple[Callable[[str], str], str]] = {
    "another header": (lambda text: text.replace("@v1", "@v2"), "does not begin with c2sp.org/tlog-proof@v1"),
    "cut short": (lambda text: text[:200], "or it is cut short"),
    "no event": (lambda text: text.replace("extra ", "exstra "), "does not have the event"),
    "an index with a zero before it": (lambda text: text.replace("index 1", "index 01"), "a line of it is damaged"),
    "another index": (lambda text: text.replace("index 1", "index 0"), "without this event at this place"),
    "an index behind the end": (lambda text: text.replace("index 1", "index 2"), "without this event at this place"),
    "a hash that is none": (lambda text: text.replace("AAEC", "AAE*"), "a line of it is damaged"),
    "another hash": (lambda text: text.replace("AAECAw", "AAECBA"), "without this event at this place"),
    "a hash too many": (lambda text: text.replace("\n\n", f"\n{'A' * 43}=\n\n", 1), "without this event at this place"),
    "a size of another tree": (
        lambda text: text.replace("\n2\n", "\n3\n"),
        "The checkpoint in the proof does not hold",
    ),
    "CR LF": (lambda text: text.replace("\n", "\r\n"), "does not begin with"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_proof_that_was_changed_does_not_hold(how: str) -> None:
    spoil, sentence = SPOILT[how]
    with pytest.raises(NotProven, match=sentence):
        check(spoil(proof()).encode(), SIGNER.key)


def test_proof_of_another_event_or_another_key_does_not_hold() -> None:
    changed = LEAF.replace(b'"moved"', b'"noted"')
    text = proof().replace(_text(LEAF), _text(changed))
    with pytest.raises(NotProven, match="without this event at this place"):
        check(text.encode(), SIGNER.key)
    with pytest.raises(NotProven, match=r"not signed by another\.example/books"):
        check(proof().encode(), ANOTHER.key)
    with pytest.raises(NotProven, match="not about an event"):
        check(proof(b"hoso24/epoch-1\n[2,1,[],0,0]").encode(), SIGNER.key)
    for data in (b"", b"\xff", bytes(2_000_000)):
        with pytest.raises(NotProven, match="The file is no proof"):
            check(data, SIGNER.key)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


# -- from log and books ------------------------------------------------------------------------------------------------


@pytest.fixture
async def auditor(database: Database) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(database.auditor_url)
    yield connection
    await connection.close()


@pytest.fixture
def entered(owner: Any, tmp_path: Path) -> Entered:
    (tmp_path / "books").mkdir()
    return Entered(tmp_path / "books", owner)


async def test_every_event_of_the_books_is_proven_and_no_other(
    auditor: Any, owner: Any, writer: Any, entered: Entered, database: Database
) -> None:
    written = Written(writer)
    codes = [await written.life() for _ in range(60)]  # more than a tile
    await written.remove(codes[7])
    await entered.enter()
    archivist = await asyncpg.connect(database.archivist_url)
    await erase(archivist, codes[7])
    await archivist.close()
    books, key = books_at(str(entered.directory)), SIGNER.key
    for n, code in enumerate(codes):
        for version in (1, 3, 5):
            proven = check((await prove(auditor, books, key, code, version)).encode(), key)
            assert (proven.event["code"], proven.event["version"]) == (code, version)
            assert proven.entry == 5 * n + version - 1
    proof = await prove(auditor, books, key, codes[7], 6)
    assert check(proof.encode(), key).event["kind"] == "removed"
    assert len(proof) < 2_048
    await written.follow(codes[0], status=10)
    await Written(writer, keys=SealKeys.from_text("x:" + "11" * 32)).receive("G99.01.01-261130-7777")
    with pytest.raises(NotProven, match=f"Event 6 of {codes[0]} is not among 301 entries of the books: it is newer"):
        await prove(auditor, books, key, codes[0], 6)
    await entered.enter()
    with pytest.raises(NotProven, match=r"Event 1 of G99\.01\.01-261130-7777 was refused by the notary"):
        await prove(auditor, books, key, "G99.01.01-261130-7777", 1)
    with pytest.raises(NotProven, match=f"There is no event 9 of {codes[0]}"):
        await prove(auditor, books, key, codes[0], 9)
    await owner.execute("UPDATE event SET note = 'x' WHERE code = $1 AND version = 2", codes[0])
    with pytest.raises(NotProven, match="it is newer, or altered"):
        await prove(auditor, books, key, codes[0], 2)


# -- watching ----------------------------------------------------------------------------------------------------------


def grown(directory: Path, *leaves: bytes, more: bool = False) -> None:
    files = Files(directory)
    tree = SignedTree.open(files, SIGNER) if more else SignedTree.begin(files, SIGNER, None)
    for leaf in leaves:
        tree.append(leaf_hash(leaf), bytes(24))
    tree.sign(None)
    tree.close()


def test_watch_keeps_the_newest_checkpoint_while_the_books_grow(tmp_path: Path) -> None:
    place, state = tmp_path / "books", tmp_path / "kept.txt"
    place.mkdir()
    grown(place, b"1", b"2")
    books = books_at(str(place))
    assert watch(books, SIGNER.key, state) == "Kept the first checkpoint of hoso24.example/books: 2 entries."
    for n, count in enumerate((1, 0, 300), 1):
        grown(place, *(b"%d-%d" % (n, k) for k in range(count)), more=True)
        assert watch(books, SIGNER.key, state).startswith("The books have grown from ")
        assert state.read_bytes() == (place / "checkpoint").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("kept")] == ["kept.txt"]


def test_watch_tells_both_checkpoints_when_the_books_did_not_only_grow(tmp_path: Path) -> None:
    for name, leaves in (("one", [b"1", b"2", b"3"]), ("fewer", [b"1", b"2"]), ("other", [b"1", b"x", b"3", b"4"])):
        (tmp_path / name).mkdir()
        grown(tmp_path / name, *leaves)
    state = tmp_path / "kept.txt"
    watch(books_at(str(tmp_path / "one")), SIGNER.key, state)
    kept = state.read_text("utf-8")
    for name, sentence in (
        ("fewer", "The books have 2 entries and had 3: they were set back."),
        ("other", "The books of 4 entries do not begin with the 3 of before: they were altered."),
    ):
        with pytest.raises(NotGrown) as alarm:
            watch(books_at(str(tmp_path / name)), SIGNER.key, state)
        assert str(alarm.value).startswith(
            f"{sentence}\nKeep both checkpoints, which prove it.\n\nkept:\n{kept}\nnewest:\n"
        )
        assert str(alarm.value).endswith((tmp_path / name / "checkpoint").read_text("utf-8"))
        assert state.read_text("utf-8") == kept


def test_watch_says_what_it_cannot_tell(tmp_path: Path) -> None:
    grown(tmp_path, b"1")
    books, state = books_at(str(tmp_path)), tmp_path / "kept.txt"
    state.write_text("nonsense")
    with pytest.raises(NotProven, match=r"kept\.txt has no checkpoint of these books: the note is cut short"):
        watch(books, SIGNER.key, state)
    with pytest.raises(NotProven, match="cannot be used"):
        watch(books, ANOTHER.key, tmp_path / "new.txt")
    with pytest.raises(CannotRead, match="cannot be read"):
        watch(books_at("http://127.0.0.1:1/books"), SIGNER.key, tmp_path / "new.txt")
    assert not (tmp_path / "new.txt").exists()


def test_place_of_books_is_a_directory_or_a_url_with_or_without_its_path(tmp_path: Path) -> None:
    assert books_at(str(tmp_path)).place == str(tmp_path)
    for url in ("http://notary:8093", "http://notary:8093/", "http://notary:8093/books", "http://notary:8093/books/"):
        assert books_at(url).place == "http://notary:8093/books"
    for url in ("http:///books", "https://notary/books?x=1", "https://a:b@notary/books"):
        with pytest.raises(CannotRead, match="is no address of books"):
            books_at(url)
