"""Signed checkpoints: the published vectors of signed notes, and every text that is not one."""

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.books.checkpoint import LONGEST_NOTE, Checkpoint, NotACheckpoint, Signer, VerifierKey, note, open_note
from intake.books.tree import EMPTY_ROOT

# -- the vectors of Go's sumdb/note, which C2SP signed-note describes --------------------------------------------------

PETER = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETER_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
BLANK_NAME = "Peter\u00a0Neumann"
ENOCH = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETERS_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
ENOCHS_LINE = (
    "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n"
)


def test_the_published_key_makes_the_published_note() -> None:
    signer = Signer("PeterNeumann", PETER_SEED)
    assert signer.key.text == PETER
    assert signer.key.id.hex() == "c74f20a3"
    assert note(TEXT, [signer]) == f"{TEXT}\n{PETERS_LINE}"


def test_notes_of_several_signers_are_read() -> None:
    peter, enoch = VerifierKey.from_text(PETER), VerifierKey.from_text(ENOCH)
    both = f"{TEXT}\n{PETERS_LINE}{ENOCHS_LINE}".encode()
    for keys in ([peter], [enoch], [peter, enoch]):
        assert open_note(both, keys) == TEXT
    assert open_note(f"{TEXT}\n{PETERS_LINE}{PETERS_LINE}".encode(), [peter]) == TEXT
    with pytest.raises(NotACheckpoint, match=r"not signed by EnochRoot\+af0cfe78"):
        open_note(f"{TEXT}\n{PETERS_LINE}".encode(), [enoch])


def test_one_wrong_signature_of_a_known_key_spoils_the_note() -> None:
    peter, enoch = VerifierKey.from_text(PETER), VerifierKey.from_text(ENOCH)
    lengthened = ENOCHS_LINE[:60] + "ABCD" + ENOCHS_LINE[60:]
    assert open_note(f"{TEXT}\n{PETERS_LINE}{lengthened}".encode(), [peter]) == TEXT  # Enoch's key is unknown here
    with pytest.raises(NotACheckpoint, match="signature of EnochRoot is wrong"):
        open_note(f"{TEXT}\n{PETERS_LINE}{lengthened}".encode(), [peter, enoch])
    with pytest.raises(NotACheckpoint, match="signature of PeterNeumann is wrong"):
        open_note(f"{TEXT.replace('know', 'Know')}\n{PETERS_LINE}".encode(), [peter])


@pytest.mark.parametrize(
    "bad",
    [
        TEXT,
        f"{TEXT}\n",
        f"{TEXT}\n{PETERS_LINE[:-1]}",
        f"\x01{TEXT}\n{PETERS_LINE}",
        f"{TEXT}\n{PETERS_LINE}".replace("\n", "\r\n"),
        f"{TEXT}\n{PETERS_LINE}Unexpected line.\n",
        f"{TEXT}\n{PETERS_LINE}\n",
        f"{TEXT}\n— Bad Name {PETERS_LINE.split(' ')[2]}",
        f"{TEXT}\n{PETERS_LINE.replace('— ', '- ')}",
        f"{TEXT}\n{PETERS_LINE.replace('AM=', 'AN=')}",  # other bits in the padding
        f"{TEXT}\n{PETERS_LINE.replace('AM=', 'AM')}",
        f"{TEXT}\n{PETERS_LINE.replace('PeterNeumann', 'Peter+Neumann')}",
        f"{TEXT}\n{PETERS_LINE.replace('PeterNeumann', BLANK_NAME)}",
        f"{TEXT}\n{PETERS_LINE * 101}",
        f"\n{PETERS_LINE}",
        "",
    ],
)
def test_malformed_notes_are_refused(bad: str) -> None:
    with pytest.raises(NotACheckpoint):
        open_note(bad.encode(), [VerifierKey.from_text(PETER)])


def test_control_characters_are_refused_even_when_signed() -> None:
    signer = Signer("PeterNeumann", PETER_SEED)
    for text in ("a\tb\n", "a\r\nb\n", "\x00\n"):
        with pytest.raises(NotACheckpoint, match="control character, as lines that end with CR LF have"):
            open_note(f"{text}\n{signer.line(text)}".encode(), [signer.key])


def test_bytes_that_are_no_text_or_too_many_are_refused() -> None:
    key = VerifierKey.from_text(PETER)
    with pytest.raises(NotACheckpoint, match="not UTF-8"):
        open_note(f"{TEXT}\n{PETERS_LINE}".encode() + b"\xff", [key])
    with pytest.raises(NotACheckpoint, match="longer than 131,072 bytes"):
        open_note(b"a" * (LONGEST_NOTE + 1), [key])


def test_text_that_cannot_be_signed_is_not() -> None:
    for text in ("abc", "a\tb\n", "a\r\n"):
        with pytest.raises(ValueError, match="text ends with a newline"):
            note(text, [Signer("PeterNeumann", PETER_SEED)])
    with pytest.raises(ValueError, match="and is signed"):
        note(TEXT, [])


def test_no_part_and_no_neighbour_of_a_key_is_a_key() -> None:
    assert VerifierKey.from_text(PETER).text == PETER
    parts = {PETER[a:b] for a in range(len(PETER)) for b in range(a + 1, len(PETER) + 1)} - {PETER}
    neighbours = {PETER[:at] + chr(ord(PETER[at]) + 1) + PETER[at + 1 :] for at in range(len(PETER))}
    others = {
        "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
        "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        f"{PETER}\n",
        PETER.replace("c74f", "C74F"),
        "",
    }
    for text in parts | neighbours | others:
        with pytest.raises(ValueError, match=r"verifier key|name of a key"):
            VerifierKey.from_text(text)


def test_key_of_another_name_has_another_id() -> None:
    signer = Signer("books.example/hoso24", bytes(32))
    named = b"books.example/hoso24\n\x01" + signer.key.public
    assert signer.key.id == hashlib.sha256(named).digest()[:4]
    for name in ("", "a b", "a+b", "a\u2003b", "a\nb", "a\x00"):
        with pytest.raises(ValueError, match="no blank and no plus sign"):
            Signer(name, bytes(32))
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        Signer("a", bytes(31))
    with pytest.raises(ValueError, match="32 bytes, not 33"):
        VerifierKey("a", bytes(33))


# -- checkpoints -------------------------------------------------------------------------------------------------------

ORIGIN = "hoso24.example/books"
SIGNER = Signer(ORIGIN, bytes(range(32)))
ROOT = bytes.fromhex("0ac518629186" + "5a" * 26)


def opened(text: str, signer: Signer = SIGNER) -> Checkpoint:
    """What is read from a note with this text, signed as it should be."""
    return Checkpoint.opened(note(text, [signer]).encode(), SIGNER.key)


def test_checkpoint_is_three_lines_and_a_signature() -> None:
    checkpoint = Checkpoint(ORIGIN, 20_852_163, ROOT)
    signed = checkpoint.signed(SIGNER)
    assert signed.split("\n")[:4] == [ORIGIN, "20852163", base64.b64encode(ROOT).decode(), ""]
    assert Checkpoint.opened(signed.encode(), SIGNER.key) == checkpoint
    cosigned = checkpoint.signed(SIGNER, Signer("province.example/watch", bytes(32)))
    assert cosigned.startswith(signed)
    assert cosigned.count("— ") == 2
    assert Checkpoint.opened(cosigned.encode(), SIGNER.key) == checkpoint


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32))
def test_every_checkpoint_is_read_as_it_was_written(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(ORIGIN, size, root)
    assert Checkpoint.opened(checkpoint.signed(SIGNER).encode(), SIGNER.key) == checkpoint


@given(st.integers(0, 400), st.integers(0, 7))
def test_no_checkpoint_survives_a_flipped_bit(at: int, bit: int) -> None:
    signed = bytearray(Checkpoint(ORIGIN, 20_852_163, ROOT).signed(SIGNER).encode())
    signed[at % len(signed)] ^= 1 << bit
    with pytest.raises(NotACheckpoint):
        Checkpoint.opened(bytes(signed), SIGNER.key)


def test_no_beginning_of_a_checkpoint_is_one() -> None:
    signed = Checkpoint(ORIGIN, 20_852_163, ROOT).signed(SIGNER).encode()
    for length in range(len(signed)):
        with pytest.raises(NotACheckpoint):
            Checkpoint.opened(signed[:length], SIGNER.key)


BASE64_ROOT = base64.b64encode(ROOT).decode()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"other.example/books\n5\n{BASE64_ROOT}\n", "of another tree, 'other.example/books' and not"),
        (f"{ORIGIN}\nfive\n{BASE64_ROOT}\n", "size of the checkpoint is no decimal number"),
        (f"{ORIGIN}\n٥\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n05\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n+5\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n-5\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n 5\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n5_0\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n{2**63}\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n{'9' * 5_000}\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n\n{BASE64_ROOT}\n", "size"),
        (f"{ORIGIN}\n5\n{BASE64_ROOT[:-4]}\n", "root"),
        (f"{ORIGIN}\n5\n{BASE64_ROOT[:-1]}\n", "root"),
        (f"{ORIGIN}\n5\n{BASE64_ROOT.replace('=', '')}\n", "root"),
        (f"{ORIGIN}\n5\nAAAA{BASE64_ROOT}\n", "root"),
        (f"{ORIGIN}\n5\n{BASE64_ROOT}\nmore\n", "three lines"),
        (f"{ORIGIN}\n5\n{BASE64_ROOT}\n\n", "three lines"),
        (f"{ORIGIN}\n5\n", "three lines"),
        (f"\n{ORIGIN}\n5\n{BASE64_ROOT}\n", "three lines"),
    ],
)
def test_signed_texts_that_are_no_checkpoints_of_this_tree_are_refused(text: str, says: str) -> None:
    with pytest.raises(NotACheckpoint, match=says):
        opened(text)


def test_checkpoint_of_another_key_is_refused() -> None:
    for signer in (Signer(ORIGIN, bytes(32)), Signer("other.example/books", bytes(range(32)))):
        with pytest.raises(NotACheckpoint, match="is not signed by"):
            opened(f"{ORIGIN}\n5\n{BASE64_ROOT}\n", signer)


def test_what_is_no_tree_is_not_signed() -> None:
    for checkpoint in (Checkpoint(ORIGIN, -1, ROOT), Checkpoint(ORIGIN, 2**63, ROOT), Checkpoint(ORIGIN, 1, b"")):
        with pytest.raises(ValueError, match="there is no tree"):
            checkpoint.signed(SIGNER)
    for origin in ("", "a b", "a\nb"):
        with pytest.raises(ValueError, match="no blank"):
            Checkpoint(origin, 0, EMPTY_ROOT).signed(SIGNER)
