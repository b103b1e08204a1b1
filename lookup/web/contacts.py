"""Who is called about a dossier: the agency its code begins with, which tells a stranger nothing new."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any

from markupsafe import Markup

from lookup.catalogue import Catalogue
from lookup.web.layout import fragment


@dataclass(frozen=True, slots=True)
class Contact:
    """How an agency is reached, in one language; None for what the catalogue does not know."""

    name: str
    phone: str | None = None
    email: str | None = None
    address: str | Markup | None = None
    hours: str | Markup | None = None
    complaint_url: str | None = None


def contact_of(catalogue: Catalogue, agency: str, day: date, lang: str) -> Contact | None:
    """How to reach, on that day, the agency with this code, or with this number of the social insurance (scheme D).

    None for an agency of which the catalogue knows no way to reach it.
    """
    known = catalogue.contact_of(agency, day)
    if known is None:
        return None
    name: str = getattr(known.agency, f"name_{lang}")
    address, hours = _said(known, "address", lang), _said(known, "hours", lang)
    return Contact(name, known.hotline, known.email, address, hours, known.complaint_url)


def _said(known: Any, field: str, lang: str) -> str | Markup | None:
    """The field in that language; in Vietnamese, and said to be so, where there is none in English."""
    text: str | None = getattr(known, f"{field}_{lang}")
    if text or lang == "vi":
        return text
    vietnamese = getattr(known, f"{field}_vi")
    return Markup('<span lang="vi">{}</span>').format(vietnamese) if vietnamese else None


class Contacts:
    """The contact blocks of pages, made once a day for each agency and language while the catalogue stays the same.

    `hotline`: the installation's telephone number, for agencies that have none in the catalogue.
    """

    def __init__(self, catalogue: Callable[[], Catalogue], hotline: str | None) -> None:
        self._catalogue = catalogue
        self._hotline = hotline
        self._made: dict[tuple[str, str], Markup] = {}
        self._of: tuple[Catalogue, date] | None = None

    def block(self, agency: str, day: date, lang: str) -> Markup:
        """The block for dossiers whose code begins with this agency; never empty."""
        catalogue = self._catalogue()
        if self._of is None or self._of[0] is not catalogue or self._of[1] != day:
            self._of = catalogue, day
            self._made.clear()
        made = self._made.get((agency, lang))
        if made is None:
            contact = contact_of(catalogue, agency, day, lang)
            # Codes may name any agency: those that nobody has share a block, so that they do not fill the memory.
            key = (agency if contact else "", lang)
            shown = {"contact": contact, "hotline": self._hotline}
            made = self._made[key] = self._made.get(key) or fragment("_contact.html", lang, shown)
        return made
