"""The channels by which an applicant may agree to be told, and what an address of each looks like. No I/O.

An address goes into the envelope and the head of a mail, and to a gateway: what could end a line there, or begin
another recipient, is no address.
"""

import re
from typing import Final, Literal

Channel = Literal["mail", "gateway"]
CHANNELS: Final[tuple[Channel, ...]] = ("mail", "gateway")
"""By mail, and by a text message or a messenger through the installation's gateway."""

LONGEST: Final = 254
"""Characters of a mail address (RFC 5321, 4.5.3.1.3)."""

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MAIL = re.compile(
    rf"[a-z0-9!#$%&'*+/=?^_`{{|}}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{{|}}~-]+)*@(?:{_LABEL}\.)+{_LABEL}",
    re.ASCII | re.IGNORECASE,
)
"""A dot-atom at the name of a host: neither quotes nor comments nor literal addresses, and ASCII alone."""
_GATEWAY = re.compile(r"[+a-z0-9](?:[a-z0-9._@:-]{1,98})[a-z0-9]", re.ASCII | re.IGNORECASE)
"""A telephone number, or a name of the gateway's own."""


class NoAddress(ValueError):
    """The text is no address of this channel; the message is one sentence without the text."""


def checked(channel: str, address: str) -> str:
    """The address as it is stored. Raises NoAddress."""
    if channel == "mail":
        local = address.rpartition("@")[0]
        if len(address) > LONGEST or len(local) > 64 or _MAIL.fullmatch(address) is None:
            raise NoAddress("mail: this is no mail address, as name@host.example")
        return address
    address = re.sub(r"(?<=\d)[ .](?=\d)", "", address)
    if _GATEWAY.fullmatch(address) is None:
        raise NoAddress("gateway: an address has 3 to 100 letters, digits and . _ @ : -, as a telephone number has")
    return address
