"""The pages about this site: who runs it, privacy, accessibility. Made once per process, from settings and phrases."""

from collections.abc import Collection, Mapping

from aiohttp import web

from lookup.dossier import Shows
from lookup.web import layout
from lookup.web.layout import ABOUT, ACCESSIBILITY, KEY_COOKIE, PRIVACY, page_headers
from lookup.web.own_list import COOKIE as LIST_COOKIE
from lookup.web.own_list import DAYS as LIST_DAYS
from lookup.web.pages import COOKIE_SECONDS
from lookup.web.phrases import PHRASES
from lookup.web.ready import handler, html_page

ADDRESSES = {"about": ABOUT, "privacy": PRIVACY, "accessibility": ACCESSIBILITY}
"""Page → language → address."""

SECTIONS = {
    "about": ("does", "not", "source"),
    "privacy": ("shown", "cookies", "log", "limits", "others", "rights"),
    "accessibility": ("works", "state", "limits", "help"),
}
"""Page → its sections, in order."""

_KEPT = "public, max-age=300"


def routes(shows: Collection[Shows]) -> list[web.RouteDef]:
    """GET of the three pages in both languages. They name the site that `layout.belongs_to` was told of.

    `shows`: what this installation adds to the anonymous view, which the page about privacy says.
    """
    return [
        web.get(address, handler(html_page(_page(name, lang, shows), page_headers(_KEPT))))
        for name, addresses in ADDRESSES.items()
        for lang, address in addresses.items()
    ]


def _page(name: str, lang: str, shows: Collection[Shows]) -> str:
    words, addresses = PHRASES[lang], ADDRESSES[name]
    context = {
        "other_url": addresses[layout.other_language(lang)],
        "found_at": addresses,
        "title": words[f"{name}.title"],
        "lead": words[f"{name}.lead"],
        "sections": [
            {"title": words[f"{name}.{section}.title"], "lines": _lines(f"{name}.{section}", words, shows)}
            for section in SECTIONS[name]
        ],
    }
    return layout.render("about.html", lang, context)


def _lines(section: str, words: Mapping[str, str], shows: Collection[Shows]) -> list[str]:
    cookies = {
        "cookie": KEY_COOKIE,
        "minutes": COOKIE_SECONDS // 60,
        "list_cookie": LIST_COOKIE,
        "list_days": LIST_DAYS,
    }
    lines = words[f"{section}.text"].format(**cookies).splitlines()
    if section == "privacy.shown" and shows:
        fields = [words[f"privacy.more.{each.value}"] for each in Shows if each in shows]
        lines.append(words["privacy.more"].format(fields=", ".join(fields)))
    return lines
