"""A follower's place in the log, which proves that its event is still there.

It names the last event that was taken, by epoch, transaction and sequence, and carries the first bytes of that event's
seal. After a restore PostgreSQL gives the same numbers again; no seal comes twice. So a follower is never led past
events that it has not seen.
"""

import base64
import binascii
import struct
from typing import Final, NamedTuple

from ops.errors import Kind, Refusal

_PREFIX: Final = "c1_"
_FORM: Final = struct.Struct(">IQQ6s")
_LARGEST: Final = 2**63 - 1
SEAL_BYTES: Final = 6
"""Of the event's seal."""


class MalformedCursor(Refusal):
    """The text is no cursor of this service, or it was cut off."""

    kind = Kind.INVALID
    code = "malformed_cursor"
    title = "This is no cursor. Send one as it was given, or begin with `from`."
    title_vi = "Vị trí đọc không hợp lệ. Hãy gửi đúng giá trị đã nhận, hoặc bắt đầu bằng `from`."


class Cursor(NamedTuple):
    """The last event that was taken. `seal`: the first SEAL_BYTES of its seal."""

    epoch: int
    xid: int
    seq: int
    seal: bytes

    @property
    def text(self) -> str:
        """As answers have it, in letters and digits."""
        packed = _FORM.pack(self.epoch, self.xid, self.seq, self.seal)
        return _PREFIX + base64.b32encode(packed).decode().rstrip("=").lower()


BEGINNING: Final = Cursor(0, 0, 0, bytes(SEAL_BYTES))
"""Before the first event; it needs no proof."""


def parse(text: str) -> Cursor:
    """The cursor of such a text, in small or capital letters. Raises MalformedCursor."""
    encoded = text.strip().lower().removeprefix(_PREFIX)
    try:
        packed = base64.b32decode(encoded.upper() + "=" * (-len(encoded) % 8))
        cursor = Cursor(*_FORM.unpack(packed))
    except (binascii.Error, struct.error, ValueError):
        raise MalformedCursor from None
    if cursor.text != _PREFIX + encoded or cursor.epoch > 2**31 - 1 or max(cursor.xid, cursor.seq) > _LARGEST:
        raise MalformedCursor
    return cursor
