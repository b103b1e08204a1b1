"""How names and numbers are compared when somebody looks for a person. No I/O."""

import re
import unicodedata
from typing import Final

_MARKS: Final = re.compile(r"[^a-z0-9 ]+")
_MOST: Final = 300
_TAIL: Final = 32


def folded(name: str | None) -> str:
    """A name in small letters without marks: "Nguyễn Thị Đào" is "nguyen thi dao"; empty for none.

    Letters of other scripts are left out: what is folded finds a person, and is shown to nobody.
    """
    if not name:
        return ""
    plain = unicodedata.normalize("NFKD", name.casefold()).replace("đ", "d")
    kept = "".join(each if not unicodedata.combining(each) else "" for each in plain)
    return " ".join(_MARKS.sub(" ", kept).split())[:_MOST].rstrip()


def tail(number: str | None) -> str | None:
    """A number backwards, letters and digits only, so that its end is found by a prefix; None for none."""
    kept = _MARKS.sub("", (number or "").casefold()).replace(" ", "")[-_TAIL:]
    return kept[::-1] or None
