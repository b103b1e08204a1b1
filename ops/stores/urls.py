"""The URLs in settings: the server's address, the login, and the certificate to trust.

A setting holds one URL or, while a password is being changed, several, one per line: the one that the server accepts is
used. docs/connections.md describes the forms and their failures.
"""

import functools
import os
import ssl
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

REDIS_FORMS = "redis://, rediss://, redis+sentinel:// or rediss+sentinel://"
REDIS_PORT = 6379
SENTINEL_PORT = 26379
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_TRUTHS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Place(NamedTuple):
    """A host and a port."""

    host: str
    port: int


class Login(NamedTuple):
    """User and password; both empty when the server requires none."""

    user: str = ""
    password: str = ""


@dataclass(frozen=True)
class Trust:
    """The trusted authority, from the file `ca` or the system's, and our own certificate."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """The context for the next connection; replaced files are read again. Raises OSError and ssl.SSLError."""
        files = (path for path in (self.ca, self.certificate, self.key) if path)
        return _context(self, tuple((os.stat(path).st_mtime_ns, os.stat(path).st_ino) for path in files))


@functools.lru_cache(maxsize=8)
def _context(trust: Trust, _: tuple[tuple[int, int], ...]) -> ssl.SSLContext:
    # Cached, because reading the system's authorities takes tens of milliseconds.
    context = ssl.create_default_context(cafile=trust.ca)
    context.check_hostname = trust.check_hostname
    if trust.certificate:
        context.load_cert_chain(trust.certificate, trust.key)
    return context


@dataclass(frozen=True)
class RedisAddress:
    """The address of a Redis: the only one of `places`, or the primary named `primary` of the Sentinels there."""

    places: tuple[Place, ...]
    primary: str = ""
    """The primary's name at the Sentinels; empty without Sentinels."""
    database: int = 0
    login: Login = field(default=Login(), repr=False)
    sentinel_login: Login = field(default=Login(), repr=False)
    trust: Trust | None = None
    """None without TLS; otherwise it applies to the Sentinels too."""


def redis_address(url: str) -> RedisAddress:
    """The address in a Redis URL. Raises ValueError, whose text contains neither user nor password."""
    scheme, _, rest = url.partition("://")
    tls, sentinels = scheme.startswith("rediss"), scheme.endswith("+sentinel")
    if scheme not in ("redis", "rediss", "redis+sentinel", "rediss+sentinel"):
        raise ValueError(f"expected {REDIS_FORMS}")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    login, _, hosts = authority.rpartition("@")
    none: frozenset[str] = frozenset()
    options = _options(query, (_TLS_OPTIONS if tls else none) | (_SENTINEL_OPTIONS if sentinels else none))
    primary, _, database = path.partition("/") if sentinels else ("", "", path)
    places = tuple(_place(host, SENTINEL_PORT if sentinels else REDIS_PORT) for host in hosts.split(","))
    if sentinels and not primary:
        raise ValueError("expected the name of the primary after the Sentinels: …+sentinel://one,two,three/NAME")
    if not sentinels and len(places) > 1:
        raise ValueError("expected one host; several hosts are Sentinels: redis+sentinel://one,two,three/NAME")
    return RedisAddress(
        places,
        primary=unquote(primary),
        database=_number(database),
        login=_login(login),
        sentinel_login=Login(options.get("sentinel_username", ""), options.get("sentinel_password", "")),
        trust=_trust(options) if tls else None,
    )


def check_redis(text: str) -> None:
    """Raise ValueError unless every line is a Redis URL."""
    for url in _each(text):
        redis_address(url)


def check_postgres(text: str) -> None:
    """Raise ValueError unless every line is a PostgreSQL URL, as far as can be checked without connecting."""
    for url in _each(text):
        parts = urlsplit(url)
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("expected postgresql://role:password@host/database")
        mode = dict(parse_qsl(parts.query)).get("sslmode", "prefer")
        if mode not in SSL_MODES:
            raise ValueError(f"sslmode: expected one of {', '.join(SSL_MODES)}")


def each_host(url: str) -> Sequence[str]:
    """One URL per host of `postgresql://user:password@one:5432,two:5432/database`."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


def says_which_host(url: str) -> bool:
    """Whether the URL chooses among its hosts by libpq's target_session_attrs."""
    return "target_session_attrs" in dict(parse_qsl(urlsplit(url).query))


class Urls:
    """A setting's URLs, read at each connect; the one that was accepted last comes first."""

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal
        self._accepted = ""

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(_each(self._reveal()), key=lambda url: url != self._accepted))

    def tries(self) -> list[str]:
        """The order in which to try them. Of several, the first is tried again at the end: the password may have been
        changed between the refusals of the first and the next.
        """
        urls = list(self)
        return urls if len(urls) == 1 else [*urls, urls[0]]

    def accepted(self, url: str) -> None:
        """Remember the URL that the server accepted."""
        self._accepted = url


def first(text: str) -> str:
    """The first URL of a setting: the newest, if there are several."""
    return _each(text)[0]


def _each(text: str) -> list[str]:
    urls = text.split()
    if not urls:
        raise ValueError("expected a URL")
    return urls


def _options(query: str, known: frozenset[str]) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    strange = sorted(options.keys() - known)
    if strange:
        expected = f"expected {', '.join(sorted(known))}" if known else "this form has none"
        raise ValueError(f"unknown option {', '.join(strange)}; {expected}")
    return options


def _place(text: str, port: int) -> Place:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.path:
        raise ValueError("expected host or host:port")
    try:
        return Place(parts.hostname, parts.port or port)
    except ValueError:
        raise ValueError("the port is not a number from 1 to 65535") from None


def _login(text: str) -> Login:
    user, _, password = text.partition(":")
    return Login(unquote(user), unquote(password))


def _number(database: str) -> int:
    if not database:
        return 0
    if not database.isdecimal():
        raise ValueError("the database is not a whole number")
    return int(database)


def _trust(options: dict[str, str]) -> Trust:
    check = _TRUTHS.get(options.get("ssl_check_hostname", "true").lower())
    if check is None:
        raise ValueError("ssl_check_hostname: expected true or false")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("ssl_keyfile: expected ssl_certfile too")
    return Trust(options.get("ssl_ca_certs"), options.get("ssl_certfile"), options.get("ssl_keyfile"), check)
