"""A file of dossiers as lines of UTF-8, however it was saved. No database.

Understood are UTF-8 with or without a byte order mark, UTF-16, any of these in gzip, line ends of every kind that JSON
takes, and one JSON array, whose elements then count as lines. Any other kind of file is named in one sentence.
"""

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

LONGEST_LINE: Final = 1 << 20
"""Bytes; a longer line or element is None."""

_CHUNK = 1 << 16
_GZIP = b"\x1f\x8b"
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_UNMARKED = ((re.compile(rb"[\s{\[]\0"), "utf-16-le"), (re.compile(rb"\0[\s{\[]"), "utf-16-be"))
_OTHERS = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook"),
    (b"\xd0\xcf\x11\xe0", "an Excel or Word file"),
    (b"\xfd7zXZ\0", "packed with xz"),
    (b"BZh", "packed with bzip2"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"%PDF", "a PDF"),
    (b"<", "XML or HTML"),
)


class Unreadable(Exception):
    """A file that cannot be read as dossiers, or not to its end; the message is one sentence: why, and what to do."""


class Source:
    """An open file of dossiers."""

    def __init__(self, file: BinaryIO) -> None:
        """Look at the beginning of a file opened at its start. Raises Unreadable for a kind that is not read here."""
        self._raw = file
        packed = _peek(file).startswith(_GZIP)
        self._stream: Any = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
        with _in_words():
            head = _peek(self._stream)
        for begins, what in _OTHERS:
            if head.startswith(begins):
                raise Unreadable(f"It is {what}; save it as JSON, one dossier a line, in UTF-8.")
        mark, encoding = next(((mark, name) for mark, name in _MARKS if head.startswith(mark)), (b"", "utf-8"))
        if not mark:
            encoding = next((name for form, name in _UNMARKED if form.match(head)), encoding)
        if encoding == "utf-32":
            raise Unreadable("It is in UTF-32; save it in UTF-8, for example with: iconv -f UTF-32 -t UTF-8.")
        self._begin = len(mark)
        self._in_utf8 = encoding == "utf-8"
        if not self._in_utf8:
            self._stream.seek(self._begin)
            self._stream = _Recoded(self._stream, encoding)
        self._is_array = head[len(mark) :].decode(encoding, "replace").lstrip().startswith("[")

    @property
    def consumed(self) -> int:
        """How many bytes of the file itself have been read."""
        return self._raw.tell()

    def lines(self, position: int = 0) -> Iterator[tuple[bytes | None, int]]:
        """Each line or element behind this position, with the position after it; None for a longer one.

        To be called once. A position is one that came with a line before: bytes of the text as UTF-8. Raises Unreadable
        where the file is damaged or cut off; what came before is whole.
        """
        with _in_words():
            if self._in_utf8 and not self._is_array:
                self._stream.seek(max(position, self._begin))
                yield from _lines(self._stream.readline, max(position, self._begin))
                return
            if self._in_utf8:
                self._stream.seek(self._begin)
            found = _elements(self._stream.read) if self._is_array else _lines(self._stream.readline, 0)
            yield from ((line, end) for line, end in found if end > position)


class _Recoded:
    """A stream of text in another encoding, from where it stands, as UTF-8."""

    def __init__(self, stream: Any, encoding: str) -> None:
        self._text = io.TextIOWrapper(stream, encoding, newline="\n")

    def read(self, size: int) -> bytes:
        return self._text.read(size).encode()

    def readline(self, size: int) -> bytes:
        return self._text.readline(size).encode()


@contextmanager
def _in_words() -> Iterator[None]:
    """Raise Unreadable for what a damaged file raises."""
    try:
        yield
    except EOFError:
        raise Unreadable("The gzip file is cut off; send it again.") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise Unreadable(f"The gzip file is damaged ({error}); send it again.") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"It is not whole {error.encoding.upper()} ({error.reason}); save it in UTF-8.") from None


def _peek(stream: Any) -> bytes:
    """Up to a few thousand bytes of its beginning, and back to the beginning."""
    head: bytes = stream.read(4096)
    stream.seek(0)
    return head


def _lines(readline: Callable[[int], bytes], position: int) -> Iterator[tuple[bytes | None, int]]:
    while True:
        line = readline(LONGEST_LINE + 1)
        if not line:
            return
        position += len(line)
        if line.endswith(b"\n") or len(line) <= LONGEST_LINE:
            yield line, position
            continue
        while rest := readline(LONGEST_LINE):
            position += len(rest)
            if rest.endswith(b"\n"):
                break
        yield None, position


_STRUCTURE = re.compile(rb'["\[\]{},]')
_IN_QUOTES = re.compile(rb'["\\]')


def _elements(read: Callable[[int], bytes]) -> Iterator[tuple[bytes | None, int]]:
    """The elements of the one array that the text is; only brackets, commas and quotes are looked at.

    Raises Unreadable if it is not closed, or goes on after its end.
    """
    element, long, depth, quoted, skip, offset = bytearray(), False, 0, False, 0, 0
    closed = False
    while chunk := read(_CHUNK):
        begin, at, skip = 0, skip, 0
        while not closed:
            found = (_IN_QUOTES if quoted else _STRUCTURE).search(chunk, at)
            if found is None:
                break
            at, sign = found.end(), found[0]
            if quoted:
                quoted = sign != b'"'
                at += sign == b"\\"
            elif sign == b'"':
                quoted = True
            elif sign in b"[{":
                depth += 1
                begin = at if depth == 1 else begin
            else:
                closed = sign != b"," and depth == 1
                if depth == 1:
                    element += chunk[begin : at - 1]
                    if not closed or element.strip():
                        yield (None if long or len(element) > LONGEST_LINE else bytes(element)), offset + at
                    element, long, begin = bytearray(), False, at
                depth -= sign != b","
        skip = max(0, at - len(chunk))
        if closed and chunk[begin:].strip():
            raise Unreadable("Something follows the end of the JSON array; save one array, or one dossier a line.")
        if not closed and not long:
            element += chunk[begin:] if depth else b""
            if len(element) > LONGEST_LINE:
                element, long = bytearray(), True
        offset += len(chunk)
    if not closed:
        raise Unreadable("The JSON array is not closed: the file is cut off; send it again.")
