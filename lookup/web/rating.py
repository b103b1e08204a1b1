"""Takes ratings of the pages: three buttons below a dossier's status, without script or account (lookup/ratings.py).

They are counted by status and degree (lookup_ratings_total).
"""

from aiohttp import web

from lookup import metrics
from lookup.ratings import TooManyRatings, rated
from lookup.reading.access import AccessPolicy
from lookup.web.layout import FORMS, RATING, language, other_language, page
from ops.http.posted import fields, is_ours


def routes(policy: AccessPolicy) -> list[web.RouteDef]:
    """The form's address in both languages, and the page that thanks. They stand before the pages."""
    rating = _Rating(policy)
    return [
        route(address, do)
        for address in RATING.values()
        for route, do in ((web.post, rating.take), (web.get, rating.thanks))
    ]


class _Rating:
    def __init__(self, policy: AccessPolicy) -> None:
        self._policy = policy

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Count a rating, then thank for it. Raises TooManyRatings, and Malformed for what no form of ours sends."""
        lang = language(request)
        if not is_ours(request):
            raise web.HTTPSeeOther(FORMS[lang])  # another site's form counts nothing
        status, score = rated(await fields(request))
        refusal = self._policy.rated(self._policy.asker(request.remote, request.headers))
        if refusal is not None:
            raise TooManyRatings(retry_after=refusal.retry_after, headers=refusal.headers)
        metrics.RATINGS.labels(status.slug, score).inc()
        raise web.HTTPSeeOther(RATING[lang])

    async def thanks(self, request: web.Request) -> web.StreamResponse:
        """Says thank you; reloading it counts nothing."""
        return page(request, "thanks.html", {"other_url": RATING[other_language(language(request))]})
