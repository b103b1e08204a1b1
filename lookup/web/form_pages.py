"""The lookup form in both languages, made with each beat of the pulse as ready bytes: a request only sends them."""

from collections.abc import Callable
from typing import Any

from lookup.maintenance import Notice
from lookup.web.codings import Finished
from lookup.web.layout import FORMS, language_of, notice_words, other_language, page_headers, render

Pointed = Callable[[], tuple[Notice, bool] | None]
"""Returns the maintenance to announce and whether it is under way; None for none."""

ADDRESSES = ("/", "/en", *FORMS.values())
"""Where the form is found."""

_KEPT = "public, max-age=5"


class FormPages:
    """The finished forms. `maintenance`: what they announce, as of the last `refresh`."""

    def __init__(self, maintenance: Pointed = lambda: None) -> None:
        self.maintenance = maintenance
        self._texts: dict[str, str] = {}
        self._pages: dict[str, Finished] = {}
        self.refresh()

    def refresh(self) -> None:
        """Remake them from the current announcement: 0.2 ms, and 0.2 more when it is another one."""
        for lang in FORMS:
            context = {"other_url": FORMS[other_language(lang)], "maintenance": self.pointed_out(lang)}
            text = render("form.html", lang, context)
            if text != self._texts.get(lang):
                self._texts[lang] = text
                headers = page_headers(_KEPT)
                content = Finished(text.encode(), "text/html; charset=utf-8", headers)
                self._pages |= {address: content for address in ADDRESSES if language_of(address) == lang}

    @property
    def pages(self) -> dict[str, Finished]:
        """Address → the page to send there: always the same dictionary, with what `refresh` made last."""
        return self._pages

    def pointed_out(self, lang: str) -> dict[str, Any] | None:
        """The texts of the maintenance to announce; None for none."""
        pointed = self.maintenance()
        return pointed and notice_words(*pointed, lang)
