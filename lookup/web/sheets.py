"""Pages that are alike but for a few words: a template is rendered once, and the words are filled in for each request.

A sheet is what a template makes of marks that stand in the place of words, split at the marks. Filling it in gives the
bytes that the template would have made of the words themselves.

As gzip, the text between the words was compressed when the sheet was made. A word stands there in a stored block (RFC
1951, 3.2.4), into which it is copied as it is; wherever the word comes again, the compressed text refers back to that
block, and so to whatever stands in it. Therefore the words of one sheet have fixed widths. While compressing, bytes
that no page contains stand in for the words, so that the compressor finds a later occurrence only in the earlier one.
It is one member with one checksum: browsers show only the first of several members.
"""

import hashlib
import logging
import re
import struct
import zlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from typing import NoReturn

log = logging.getLogger(__name__)

_FIRST = 0xE000
_MARKS = re.compile("([\ue000-\ue0ff])")
_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03"
"""A member of gzip, packed as small as can be, of no time, on Unix: the same bytes everywhere."""
_NEVER = bytes((*range(1, 9), 11, 12, *range(14, 32), 0xC0, 0xC1, *range(0xF5, 0x100)))
"""Bytes that no page contains: controls that HTML forbids, and what UTF-8 never has."""
_trailer = struct.Struct("<LL").pack
_stored = struct.Struct("<BHH").pack


class WordUsedOtherwise(Exception):
    """A template does something with a word besides printing it: the page cannot be made once for all words."""


class Word:
    """Stands for a word while a template is rendered. It can be printed; anything else raises WordUsedOtherwise.

    It is true, because a word that is printed is not empty.
    """

    __slots__ = ("_mark", "_name")

    def __init__(self, name: str, n: int) -> None:
        self._name = name
        self._mark = chr(_FIRST + n)

    def __html__(self) -> str:
        return self._mark

    def __format__(self, spec: str) -> str:
        return self._refuse() if spec else self._mark

    def __bool__(self) -> bool:
        return True

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise WordUsedOtherwise(f"{self._name} is a word of a sheet: it can be printed as it is, and nothing else")

    __str__ = __repr__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _refuse
    __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _refuse
    __add__ = __radd__ = __mod__ = __rmod__ = __mul__ = __rmul__ = __int__ = __float__ = __index__ = _refuse


def words(*names: str) -> list[Word]:
    """One for each of these names, in the order in which a sheet is filled in."""
    return [Word(name, n) for n, name in enumerate(names)]


class Sheet:
    """A page without its words. `text`: made of `words(…)`. `widths`: the bytes of each word, escaped, in UTF-8."""

    __slots__ = ("_packed", "_plain", "digest")

    def __init__(self, text: str, widths: Sequence[int]) -> None:
        parts = _MARKS.split(text)
        order = [ord(found) - _FIRST for found in parts[1::2]]
        if any(n >= len(widths) for n in order):
            raise WordUsedOtherwise("the text has a character of a mark that stands for no word of this sheet")
        between = [part.encode() for part in parts[0::2]]
        self._plain = _Form(between, order, len(widths))
        self._packed = _packed(self._plain, between, order, widths)
        made_of = repr((text, *widths, zlib.ZLIB_RUNTIME_VERSION))
        self.digest = hashlib.sha256(made_of.encode()).hexdigest()[:8].encode()
        """Names all but the words, and both codings: another release of zlib packs the same text otherwise."""

    def plain(self, words: tuple[bytes, ...]) -> bytes:
        """The page."""
        return self._plain.filled(words)

    def gzipped(self, words: tuple[bytes, ...]) -> bytes:
        """The page, compressed."""
        page = self._plain.filled(words)
        if self._packed is None:
            return zlib.compress(page, level=3, wbits=31)
        return self._packed.filled((*words, _trailer(zlib.crc32(page), len(page))))


class _Form:
    """Bytes with gaps: `order` says which of `count` words fills each. Joining takes half the time of formatting."""

    __slots__ = ("_between", "_pick")

    def __init__(self, between: Sequence[bytes], order: Sequence[int], count: int) -> None:
        self._between = (*between, b"")  # the last for a form of one part: what itemgetter gives is a tuple then, too
        pairs = [(count + place, n) for place, n in enumerate(order)]
        self._pick = itemgetter(*chain.from_iterable(pairs), count + len(order), count + len(order) + 1)

    def filled(self, words: tuple[bytes, ...]) -> bytes:
        """All of it, with these words."""
        return b"".join(self._pick(words + self._between))


class Shelf:
    """The sheets made so far, by what they were made of; at most `most` of them (7 kB each), then it begins anew."""

    def __init__(self, most: int = 1024) -> None:
        self._most = most
        self._sheets: dict[Hashable, Sheet | None] = {}

    def __len__(self) -> int:
        return len(self._sheets)

    def sheet(self, shape: Hashable, widths: tuple[int, ...], render: Callable[[], str]) -> Sheet | None:
        """The sheet of this shape for words of these widths; `render` makes its text, 0.3 ms, the first time.

        None where the template uses a word otherwise: logged once, then the page has to be rendered for each request.
        """
        key = (shape, widths)
        try:
            return self._sheets[key]
        except KeyError:
            if len(self._sheets) >= self._most:
                self._sheets.clear()
            try:
                made = Sheet(render(), widths)
            except WordUsedOtherwise as why:
                log.error("A page is rendered for each request, forty times as slowly: %s", why)
                made = None
            self._sheets[key] = made
            return made


# -- packing a sheet, once ---------------------------------------------------------------------------------


def _packed(plain: _Form, between: Sequence[bytes], order: Sequence[int], widths: Sequence[int]) -> _Form | None:
    """The compressed text, with gaps in its stored blocks and one for the trailer; None if none is right.

    Whether later occurrences do refer to the first is the compressor's affair, so the result is tried. If it is wrong,
    each occurrence gets a stored block of its own, for a fifth more bytes.
    """
    for alone in (frozenset[int](), frozenset(order)):
        packed = _pack(between, order, widths, alone)
        if all(_is_right(plain, packed, sample) for sample in _samples(widths)):
            return packed
        log.warning("A sheet of pages cannot be packed the short way; it is packed another way")
    return None


def _samples(widths: Sequence[int]) -> Iterator[tuple[bytes, ...]]:
    for start in (0x30, 0x41):
        yield tuple(bytes(start + (n + place) % 40 for place in range(width)) for n, width in enumerate(widths))


def _is_right(plain: _Form, packed: _Form, sample: tuple[bytes, ...]) -> bool:
    page = plain.filled(sample)
    try:
        return zlib.decompress(packed.filled((*sample, _trailer(zlib.crc32(page), len(page)))), wbits=31) == page
    except zlib.error:
        return False


def _pack(between: Sequence[bytes], order: Sequence[int], widths: Sequence[int], alone: frozenset[int]) -> _Form:
    """The same for one choice of the words whose every occurrence is stored: `alone`, and those without stand-ins."""
    stand_ins = _stand_ins(order, widths, alone)
    firsts: list[int] = []
    texts = [between[0]]
    for n, part in zip(order, between[1:], strict=True):
        if n in firsts and n in stand_ins:
            texts[-1] += stand_ins[n] + part
        else:
            firsts.append(n)
            texts.append(part)
    packed, before = [_HEAD], b""
    for word, text in zip([*firsts, None], texts, strict=True):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, before[-32768:])
        packed[-1] += packer.compress(text) + packer.flush(zlib.Z_FINISH if word is None else zlib.Z_SYNC_FLUSH)
        if word is not None:
            packed[-1] += _stored(0, widths[word], 0xFFFF ^ widths[word])
            packed.append(b"")
            before += text + stand_ins.get(word, bytes(widths[word]))
    return _Form([*packed, b""], [*firsts, len(widths)], len(widths) + 1)


def _stand_ins(order: Sequence[int], widths: Sequence[int], alone: frozenset[int]) -> dict[int, bytes]:
    """Bytes for each word that comes more than once, while there are any."""
    found, free = {}, _NEVER
    for n in dict.fromkeys(order):
        if n not in alone and order.count(n) > 1 and 0 < widths[n] <= len(free):
            found[n], free = free[: widths[n]], free[widths[n] :]
    return found
