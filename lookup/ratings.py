"""How satisfied citizens are with the pages: what a rating says, and how many a network may send.

The form holds the number of the status and nothing of the dossier, its address has no code, and our pages send no
referrer: so what is counted cannot be joined with a dossier, not even from the access log. The lookup takes ratings and
counts them as a metric; where the edge leads the form to the notices' port, they are counted by day in PostgreSQL.
"""

from collections.abc import Mapping
from typing import Final

from lookup.status import Status
from ops.errors import Kind, Malformed, Refusal
from ops.http.allowance import Allowance

ADDRESSES: Final = {"vi": "/tra-cuu/danh-gia", "en": "/en/status/rating"}
"""Language → where ratings are sent: below the form and without a code. Asked with GET it thanks for one."""

SCORES: Final = ("very_satisfied", "satisfied", "not_satisfied")
"""The three degrees of TT 01/2018, art. 12."""

ALLOWANCE: Final = Allowance("rating", 20, 20.0)
"""What one network may send: at once, and an hour after that."""

_STATUSES = {str(status.value): status for status in Status}


class TooManyRatings(Refusal):
    """This client's network has sent too many ratings."""

    kind = Kind.LIMITED
    code = "too_many_ratings"
    title = "Too many ratings came from this network. Please try again later."
    title_vi = "Mạng đang dùng đã gửi quá nhiều đánh giá. Vui lòng thử lại sau."
    repeating_helps = True


def rated(form: Mapping[str, str]) -> tuple[Status, str]:
    """The status and the degree that a form says. Raises Malformed for what no form of ours sends."""
    score, status = form.get("score", ""), _STATUSES.get(form.get("status", ""))
    if status is None or score not in SCORES:
        raise Malformed("A rating has a status, 1 to 10, and a score: very_satisfied, satisfied or not_satisfied.")
    return status, score
