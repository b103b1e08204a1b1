"""How satisfied citizens are with these pages: three buttons below a dossier's status, without script or account.

The form holds the number of the status and nothing of the dossier, its address has no code, and our pages send no
referrer: so what is counted, by status and degree (lookup_ratings_total), cannot be joined with a dossier, not even
from the access log. A network that sends many is refused.
"""

from aiohttp import web

from lookup import metrics
from lookup.reading.access import AccessPolicy
from lookup.status import Status
from lookup.web.layout import FORMS, RATING, language, other_language, page
from lookup.web.posted import fields, is_ours
from ops.errors import Kind, Malformed, Refusal

SCORES = ("very_satisfied", "satisfied", "not_satisfied")
"""The three degrees of TT 01/2018, art. 12."""


class TooManyRatings(Refusal):
    """This client's network has sent too many ratings."""

    kind = Kind.LIMITED
    code = "too_many_ratings"
    title = "Too many ratings came from this network. Please try again later."
    title_vi = "Mạng đang dùng đã gửi quá nhiều đánh giá. Vui lòng thử lại sau."
    repeating_helps = True


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
        form = await fields(request)
        score, number = form.get("score"), form.get("status", "")
        status = _STATUSES.get(number)
        if status is None or score not in SCORES:
            raise Malformed("A rating has a status, 1 to 10, and a score: very_satisfied, satisfied or not_satisfied.")
        refusal = self._policy.rated(self._policy.asker(request.remote, request.headers))
        if refusal is not None:
            raise TooManyRatings(retry_after=refusal.retry_after, headers=refusal.headers)
        metrics.RATINGS.labels(status.slug, score).inc()
        raise web.HTTPSeeOther(RATING[lang])

    async def thanks(self, request: web.Request) -> web.StreamResponse:
        """Says thank you; reloading it counts nothing."""
        return page(request, "thanks.html", {"other_url": RATING[other_language(language(request))]})


_STATUSES = {str(status.value): status for status in Status}
