"""The two codes of a paper: the link to the dossier's page with its lookup key, and the stamp.

Both have letters in capitals wherever their case does not matter, which takes fewer modules: phones read the link's
code better the larger its modules are. The mask is given, because trying all eight takes three times as long and is
read no better.
"""

import io
from typing import Final
from urllib.parse import urlsplit

import segno

from lookup import code as codes

_MASK: Final = 2


def link(site: str, code: str, key: str | None) -> list[str]:
    """The address of this dossier's page, with its key if given, in the parts that a code writes each its own way."""
    page = f"{_capitals(site)}/G/{codes.parse(code).path}"
    return [page, "?k=", key] if key else [page]


def stamp_link(site: str, stamp: str) -> list[str]:
    """The address of the page that verifies this stamp."""
    return [f"{_capitals(site)}/KIEM-TRA", f"?s={stamp}"]


def picture(parts: list[str]) -> tuple[list[int], int]:
    """The code of these parts: a PNG of one pixel a module, byte by byte, without a margin; and the modules of a side.

    Raises segno.DataOverflowError for more than a code can hold.
    """
    code = segno.make_qr(parts, error="m", mask=_MASK, boost_error=False)  # type: ignore[arg-type] # it takes parts too
    out = io.BytesIO()
    code.save(out, kind="png", border=0)
    return list(out.getvalue()), int(code.symbol_size(border=0)[0])


def _capitals(site: str) -> str:
    """Scheme and host in capitals; a path stays as it is."""
    parts = urlsplit(site.rstrip("/"))
    return f"{parts.scheme.upper()}://{parts.netloc.upper()}{parts.path}"
