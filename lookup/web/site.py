"""Who runs this site, and at which address citizens reach it: for every page's footer and for the pages about it."""

import re
from dataclasses import dataclass

_MAIL = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+")
_WEB = re.compile(r"https://[^\s<>\"']+")
_TELEPHONE = re.compile(r"\+?[0-9][0-9 .()-]{2,}")


@dataclass(frozen=True, slots=True)
class Site:
    """What the operator declares; an empty text is not declared. `public_url` has no slash at its end."""

    owner: str = ""
    contact: str = ""
    hotline: str = ""
    public_url: str = ""

    @property
    def contact_link(self) -> str | None:
        """The link of the contact if it is a mail address or an https address; None for any other text."""
        if _MAIL.fullmatch(self.contact):
            return f"mailto:{self.contact}"
        return self.contact if _WEB.fullmatch(self.contact) else None

    @property
    def hotline_link(self) -> str | None:
        """The link that dials the hotline; None unless it is a telephone number."""
        return telephone_link(self.hotline)


def telephone_link(number: str) -> str | None:
    """The link that dials this number; None unless it is one."""
    if not _TELEPHONE.fullmatch(number):
        return None
    return "tel:" + re.sub(r"[^0-9+]", "", number)
