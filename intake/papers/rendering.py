"""Papers as PDF, made by typst from the templates of `forms/` whenever one is printed; none is stored.

A paper is its content. The same content and printing make the same bytes, in any process with the same release of
typst: so a paper can be verified by making it anew. The PDF carries both as attachments.
"""

import asyncio
import json
import logging
import re
import threading
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

import msgspec
import segno
import typst

from intake.papers import codes
from intake.papers.given import SIGNS, WITH_KEY, given
from intake.refusals import PaperNotReady
from lookup.clock import VIETNAM

log = logging.getLogger(__name__)

THREADS: Final = 2
LIMIT: Final = 2.0
"""Seconds from the request to the finished paper."""
PRINTING_FORMAT: Final = "hoso24-print-1"
CONTENT_NAME: Final = "noi-dung.json"
PRINTING_NAME: Final = "ban-in.json"
MOST_ATTACHED: Final = 1 << 20
"""Bytes of an attachment; a larger one is none of ours."""

_FORMS: Final = Path(str(resources.files(__package__).joinpath("forms")))
_NO_PACKAGES: Final = str(_FORMS / "no-packages")
"""A path that does not exist: templates import nothing from the network, nor from this machine."""
_EMBEDDED: Final = b"/Type/EmbeddedFile"
_HEAD: Final = 400
"""Bytes around that within which the dictionary of an attachment stands."""
_LENGTH: Final = re.compile(rb"/Length (\d{1,7})\b")
_threads = threading.local()


class Printing(msgspec.Struct, frozen=True, kw_only=True):
    """What a paper shows besides its content: the address of the site, its stamp, the lookup key, which reprint it is.

    `key` and `stamp` are texts as they are printed. `again` is 0 for a paper that is no reprint.
    """

    format: str = PRINTING_FORMAT
    site: str
    stamp: str | None = None
    key: str | None = None
    again: int = 0


class NotOurs(ValueError):
    """A PDF without the two attachments of a paper; the message says what is wrong with it."""


def form_on(name: str, day: date) -> str:
    """The form of this name that holds on that day, as NAME@FROM. Raises LookupError if there is none."""
    holding = [each for each in forms().get(name, ()) if each <= day.isoformat()]
    if not holding:
        raise LookupError(f"no form of the name {name} holds on {day:%d/%m/%Y}")
    return f"{name}@{max(holding)}"


@cache
def forms() -> Mapping[str, tuple[str, ...]]:
    """The names of forms, with the days from which their versions hold."""
    found: dict[str, tuple[str, ...]] = {}
    for each in sorted(_FORMS.glob("*@*.typ")):
        name, _, since = each.stem.partition("@")
        found[name] = (*found.get(name, ()), since)
    del found["parts"]
    return found


def rendered_anew(content: str, printing: Printing) -> bytes:
    """The paper with this content, as PDF; the same arguments give the same bytes. About ten milliseconds.

    `content` is JSON, of a numbered paper canonical (intake/books/paper_rows.py). Its form is that of `form_version` in
    it, or without one the form of that name on the day of issue. It is made in
    the calling thread, and any number of threads may do so at once. Raises ValueError for content that is of no form.
    """
    try:
        said = msgspec.json.decode(content, type=dict[str, Any])
        name, issued_at = said["form"], datetime.fromisoformat(said["issued_at"]).astimezone(VIETNAM)
        since = said.get("form_version")
        form = f"{name}@{since}" if since else form_on(name, issued_at.date())
        if since and since not in forms()[name]:
            raise LookupError(f"there is no form {form}")
        texts = given(said, site=printing.site, again=printing.again)
        texts |= _codes_of(said, printing)
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise ValueError(f"This content is of no form: {type(error).__name__} {error}") from None
    texts["attached"] = [
        {"name": CONTENT_NAME, "says": "Nội dung của giấy", "data": content},
        {"name": PRINTING_NAME, "says": "Bản in", "data": msgspec.json.encode(printing, order="sorted").decode()},
    ]
    made = _compiler(form).compile(
        sys_inputs={"given": json.dumps(texts)},
        format="pdf",
        timestamp=int(issued_at.timestamp()),
    )
    assert isinstance(made, bytes)  # noqa: S101 - a list is of pictures, one a page
    return made


def _codes_of(content: Mapping[str, Any], printing: Printing) -> dict[str, Any]:
    form, code = content["form"], content.get("code")
    shown = code if form in WITH_KEY else None
    return {
        "key": printing.key if shown else None,
        "link-code": codes.picture(codes.link(printing.site, shown, printing.key)) if shown else None,
        "stamp-code": (
            codes.picture(codes.stamp_link(printing.site, printing.stamp)) if form in SIGNS and printing.stamp else None
        ),
    }


def _compiler(form: str) -> typst.Compiler:
    """This thread's own compiler of this form: one that two threads use at once fails with "Already borrowed"."""
    kept: dict[str, typst.Compiler] = _threads.__dict__.setdefault("compilers", {})
    if form not in kept:
        kept[form] = typst.Compiler(
            str(_FORMS / f"{form}.typ"),  # a path: one made of bytes fails when it compiles for the second time
            root=str(_FORMS),
            font_paths=_fonts(),
            ignore_system_fonts=True,
            package_path=_NO_PACKAGES,
            package_cache_path=_NO_PACKAGES,
        )
    return kept[form]


@cache
def _fonts() -> typst.Fonts:
    """Those that typst carries, and none of the machine's."""
    return typst.Fonts(include_system_fonts=False, include_embedded_fonts=True)


def attached(pdf: bytes) -> tuple[str, Printing]:
    """The content, as it was written, and the printing that a paper of ours carries. Raises NotOurs.

    Whether the rest of the PDF shows just them is found out by making it anew.
    """
    found = [(each, _json(each)) for each in _attachments(pdf)]
    printings = [read for _, read in found if read.get("format") == PRINTING_FORMAT]
    contents = [text for text, read in found if read.get("format") != PRINTING_FORMAT]
    if len(contents) != 1 or len(printings) != 1:
        raise NotOurs(f"it has {len(found)} attachments, not the two of a paper")
    try:
        return contents[0].decode(), msgspec.convert(printings[0], Printing)
    except msgspec.ValidationError as error:
        raise NotOurs(f"its attachment {PRINTING_NAME} is of another shape: {error}") from None


def _attachments(pdf: bytes) -> Iterator[bytes]:
    """Each embedded file, written as typst writes it: no reader of any PDF. Raises NotOurs."""
    at = pdf.find(_EMBEDDED)
    while at >= 0:
        start, end = pdf.rfind(b" obj", max(0, at - _HEAD), at), pdf.find(b"stream\n", at, at + _HEAD)
        length = _LENGTH.search(pdf, start, end) if 0 <= start < end else None
        if length is None:
            raise NotOurs("an attachment of it is written otherwise than ours are")
        data = pdf[end + 7 : end + 7 + int(length[1])]
        yield _inflated(data) if b"/FlateDecode" in pdf[start:end] else data
        at = pdf.find(_EMBEDDED, end)


def _inflated(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MOST_ATTACHED)
    except zlib.error as error:
        raise NotOurs(f"an attachment of it cannot be unpacked: {error}") from None
    if not unpacker.eof:
        raise NotOurs(f"an attachment of it is cut off, or larger than {MOST_ATTACHED} bytes")
    return text


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        raise NotOurs(f"an attachment of it is no JSON object: {error}") from None
    return found


class Press:
    """Makes papers in two threads beside the event loop. One for each process; `close` ends it."""

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="papers")

    async def paper(self, content: str, printing: Printing, *, limit: float | None = None) -> bytes:
        """`rendered_anew` beside the event loop.

        Raises PaperNotReady when it is not finished after two seconds, or as many as `limit` says, the wait for a
        thread included; and when the content is of no form, which is logged.
        """
        work = asyncio.get_running_loop().run_in_executor(self._threads, rendered_anew, content, printing)
        try:
            async with asyncio.timeout(self._limit if limit is None else limit):
                return await work
        except TimeoutError:
            raise PaperNotReady("It took too long to make this paper.") from None
        except (ValueError, typst.TypstError, segno.DataOverflowError) as error:
            log.error("A paper cannot be made", extra={"error": str(error)})
            raise PaperNotReady("This paper cannot be made.") from error

    def close(self) -> None:
        """End the threads, after what they are making."""
        self._threads.shutdown(wait=False, cancel_futures=True)
