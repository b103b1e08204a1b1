"""Where mails are handed over, as a setting has it. No I/O, and without the library that sends them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

FORM: Final = "smtp://user:password@host:587 (STARTTLS; ?starttls=no without it), smtps://user:password@host:465"


@dataclass(frozen=True)
class SmtpUrl:
    """Where an SMTP server is. `start_tls`: it has to begin TLS before anything else is said."""

    host: str
    port: int
    tls: bool
    start_tls: bool
    user: str | None
    password: str | None

    @classmethod
    def of(cls, url: str) -> "SmtpUrl | Path":
        """The server, or with file:// the directory, of a URL. Raises ValueError without user and password."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port
        except ValueError:
            raise ValueError(f"expected {FORM}") from None
        if parts.scheme == "file" and parts.path.startswith("/") and not parts.netloc:
            return Path(unquote(parts.path))
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"expected {FORM}, or file:///directory for trials")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        start_tls = options.pop("starttls", "yes" if parts.scheme == "smtp" else "no")
        if options or start_tls not in ("yes", "no") or (parts.scheme == "smtps" and start_tls == "yes"):
            raise ValueError("the only option is starttls=yes or starttls=no, of smtp://")
        user = unquote(parts.username) if parts.username else None
        password = unquote(parts.password) if parts.password else None
        if (user is None) is not (password is None):
            raise ValueError("a user and a password belong together")
        tls = parts.scheme == "smtps"
        return cls(parts.hostname, port or (465 if tls else 587), tls, start_tls == "yes", user, password)
