"""`hoso24 paper verify`: whether a PDF or the text of a stamp is of ours. It believes public keys and nothing else.

Of a PDF three things are told apart: a key of ours stamped it, the stamp is of this content, and the pages show that
content and nothing else, since making it anew gives the same bytes.
"""

from datetime import datetime
from typing import NamedTuple

import msgspec

from intake.books.paper_rows import canonical, digest_of
from intake.papers.rendering import NotOurs, attached, rendered_anew
from intake.rules.papers import Content
from lookup.clock import local
from lookup.paper_stamp import NotStamped, PublicKeys, Stamped


class Checked(NamedTuple):
    """What was found. `stamped`: what a known key stamped; None: no key did, for the reason in `why`.

    `matches`: the content is the stamped one; `anew`: the PDF is what its content makes. Both None for a text, which
    has neither.
    """

    stamped: Stamped | None
    why: str = ""
    matches: bool | None = None
    anew: bool | None = None

    @property
    def good(self) -> bool:
        """Whether a known key stamped it, and, of a PDF, this content."""
        return self.stamped is not None and self.matches is not False

    def lines(self) -> list[str]:
        """What to tell, a sentence each."""
        if self.stamped is None:
            return [f"stamped: no. {self.why}"]
        stamp, key = self.stamped.stamp, self.stamped.key
        told = [f"stamped: yes, with key {stamp.key_id} of {key.issuer}: {stamp.form} of {self.stamped.code.text}"]
        told += [f"{name}: {_said(at)}" for name, at in (("received", stamp.received_at), ("due", stamp.due_at)) if at]
        if self.matches is None:
            return [*told, "Compare these with the paper: a text alone does not show what else the paper says."]
        matches = "yes" if self.matches else "no: what it says is not what was stamped"
        anew = "yes" if self.anew else "no: the pages may show something else than its content"
        return [*told, f"content matches: {matches}", f"rendering matches: {anew}"]


def check_pdf(pdf: bytes, keys: PublicKeys) -> Checked:
    """Whether this PDF is a paper of ours. About ten milliseconds."""
    try:
        text, printing = attached(pdf)
        content = msgspec.json.decode(text, type=Content)
        stamped = keys.verified(printing.stamp or "")
    except (NotOurs, NotStamped) as wrong:
        return Checked(None, str(wrong))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Checked(None, "The content attached to it is not that of a numbered paper.")
    stamp = stamped.stamp
    said = (content.code, content.form, _seconds(content.received_at), _seconds(content.due_at))
    matches = (
        canonical(content) == text
        and digest_of(text).startswith(stamp.digest)
        and said == (stamped.code.text, stamp.form, _seconds(stamp.received_at), _seconds(stamp.due_at))
    )
    try:
        anew = rendered_anew(text, printing) == pdf
    except ValueError:
        anew = False
    return Checked(stamped, "", matches, anew)


def check_text(text: str, keys: PublicKeys) -> Checked:
    """Whether this text, or a link in it, is a stamp of ours."""
    try:
        return Checked(keys.verified(text))
    except NotStamped as wrong:
        return Checked(None, str(wrong))


def _seconds(at: datetime | None) -> int | None:
    return int(at.timestamp()) if at else None


def _said(at: datetime) -> str:
    return f"{local(at):%Y-%m-%d %H:%M}"
