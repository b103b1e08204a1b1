"""The ten national statuses of a dossier, and which may follow which.

The numbers are the ones national systems exchange; the slugs are ours and appear in JSON, columns,
metrics and logs alike. The moves follow Decree 61/2018/NĐ-CP, articles 17 to 20, as systems practise them.
"""

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal


class Status(IntEnum):
    """One of the ten national statuses; the value is the national number."""

    SUBMITTED = 1
    """Mới đăng ký. An online application, not yet accepted; the one-stop unit decides within 8 working hours."""

    RECEIVED = 2
    """Được tiếp nhận. Accepted as complete; the receipt is issued and the due date is set."""

    REJECTED = 3
    """Không được tiếp nhận. Not accepted, with a reason. Final: the applicant submits anew."""

    PROCESSING = 4
    """Đang xử lý. With an agency or a department; moves from 4 to 4 when the next unit takes over."""

    SUPPLEMENT_REQUIRED = 5
    """Yêu cầu bổ sung giấy tờ. The time limit pauses until the applicant supplies the missing papers."""

    PAYMENT_REQUIRED = 6
    """Yêu cầu thực hiện nghĩa vụ tài chính. The time limit pauses until the applicant has paid."""

    WITHDRAWN = 7
    """Công dân yêu cầu rút hồ sơ. The applicant withdrew it. Final."""

    SUSPENDED = 8
    """Dừng xử lý. Suspended by the agency. Systems differ on whether it may resume, so it is not final here."""

    COMPLETED = 9
    """Đã xử lý xong. The work is done (this moment decides "on time"); the result is ready for the applicant."""

    RETURNED = 10
    """Đã trả kết quả. The result is with the applicant. Final."""

    @property
    def slug(self) -> str:
        """The name used in JSON, metrics and logs: `supplement_required`."""
        return _SLUGS[self]

    @property
    def final(self) -> bool:
        """True when nothing follows."""
        return not MOVES[self]

    @property
    def paused(self) -> bool:
        """True while the time limit pauses, by law or in practice."""
        return self in PAUSED

    @property
    def asks(self) -> bool:
        """True while the applicant is asked for something; the agency's note then says for what."""
        return self in ASKING

    def may_become(self, to: "Status") -> bool:
        """Whether a dossier in this status may move to `to`."""
        return to in MOVES[self]

    @classmethod
    def from_slug(cls, slug: str) -> "Status":
        """The status of that slug; ValueError for any other text."""
        try:
            return _BY_SLUG[slug]
        except KeyError:
            raise ValueError(f"unknown status {slug!r}") from None


_SLUGS = {status: status.name.lower() for status in Status}
_BY_SLUG = {slug: status for status, slug in _SLUGS.items()}

_S = Status
MOVES = MappingProxyType(
    {
        _S.SUBMITTED: (_S.RECEIVED, _S.REJECTED, _S.SUPPLEMENT_REQUIRED, _S.WITHDRAWN),
        _S.RECEIVED: (
            _S.PROCESSING,
            _S.SUPPLEMENT_REQUIRED,
            _S.PAYMENT_REQUIRED,
            _S.WITHDRAWN,
            _S.SUSPENDED,
            _S.COMPLETED,
        ),
        _S.REJECTED: (),
        _S.PROCESSING: (
            _S.PROCESSING,
            _S.SUPPLEMENT_REQUIRED,
            _S.PAYMENT_REQUIRED,
            _S.WITHDRAWN,
            _S.SUSPENDED,
            _S.COMPLETED,
        ),
        _S.SUPPLEMENT_REQUIRED: (_S.RECEIVED, _S.PROCESSING, _S.WITHDRAWN, _S.SUSPENDED, _S.REJECTED),
        _S.PAYMENT_REQUIRED: (_S.PROCESSING, _S.WITHDRAWN, _S.SUSPENDED, _S.COMPLETED),
        _S.WITHDRAWN: (),
        _S.SUSPENDED: (_S.PROCESSING, _S.WITHDRAWN, _S.RETURNED),
        _S.COMPLETED: (_S.RETURNED, _S.PROCESSING),  # back to processing: a correction (art. 21)
        _S.RETURNED: (),
    }
)
"""Status → the statuses that may follow it; listed in README under "The life of a dossier"."""

FIRST = frozenset({_S.SUBMITTED, _S.RECEIVED})
"""A dossier starts as submitted (online) or as received (at a counter or by post)."""

if TYPE_CHECKING:  # it cannot follow a Literal that is made
    StatusSlug = str
    FirstSlug = str
else:
    StatusSlug = Literal[tuple(_BY_SLUG)]
    """The slug of a status, as JSON has it."""
    FirstSlug = Literal[tuple(status.slug for status in sorted(FIRST))]
    """The slug of a status in which a dossier starts."""

PAUSED = frozenset({_S.SUPPLEMENT_REQUIRED, _S.PAYMENT_REQUIRED, _S.SUSPENDED})

ASKING = frozenset({_S.SUPPLEMENT_REQUIRED, _S.PAYMENT_REQUIRED})
"""A suspended dossier is not among them: the agency acts next, and its note is not a task for the applicant."""
