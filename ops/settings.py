"""Settings: frozen dataclasses whose fields name environment variables.

Any setting may come from a file instead, as NAME_FILE. All faults are reported together, because a deployment has one
log line and no debugger; no report contains a secret. A variable is declared once, in the package it belongs to; other
classes inherit the declaration or use `optional`.
"""

import dataclasses
import difflib
import logging
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union

import msgspec

T = TypeVar("T")

PREFIX = "HOSO24_"
HIDDEN = "***"

_log = logging.getLogger(__name__)
_PASSWORD_IN_AUTHORITY = re.compile(r"(://[^:/?#@\s]*):.*@")
_PASSWORD_IN_QUERY = re.compile(r"([?&][^=&\s]*(?:pass|secret|token|key)[^=&\s]*)=[^&\s]*", re.IGNORECASE)

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_USER = re.compile(r"[^\[\]\s]*@")
_HOST = re.compile(r"(?:[^:@\[\]\s]*|\[[0-9A-Fa-f:.]+(?:%\w+)?\])(?::\d{1,5})?")
_PLACE = re.compile(r"[^@#\s]*")


class Secret:
    """A text that only `reveal` returns; repr and str hide it.

    A secret from a file is read again at every `reveal`, so that the next connection uses a rotated password. While the
    file is missing, empty or refused by `accepts`, the last valid text is used.
    """

    __slots__ = ("_accepts", "_text", "path")

    def __init__(self, text: str, path: Path | None = None, accepts: Callable[[str], object] = bool) -> None:
        self._text = text
        self._accepts = accepts
        self.path = path

    def reveal(self) -> str:
        if self.path is not None:
            try:
                self._take(self.path.read_text(encoding="utf-8").strip())
            except (OSError, UnicodeDecodeError) as error:
                _log.warning("Cannot reread the file of a secret; the last one stays in use: %s", type(error).__name__)
        return self._text

    def _take(self, text: str) -> None:
        if self._accepts(text):
            self._text = text
        elif text:
            _log.warning("The file of a secret has an invalid value; the last one stays in use")

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__


class SettingsError(Exception):
    """The settings are invalid; `faults` has one line for each reason."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


@dataclasses.dataclass(frozen=True)
class _Setting:
    """One field of a settings class, as declared."""

    field: str
    name: str
    doc: str
    secret: bool
    check: Callable[[Any], object] | None
    kind: Any
    default: Any

    @property
    def shape(self) -> Any:
        """The type without `None`: a variable that is set is never None."""
        if typing.get_origin(self.kind) in (Union, types.UnionType):
            (present,) = (kind for kind in typing.get_args(self.kind) if kind is not type(None))
            return present
        return self.kind


def setting(
    name: str,
    *,
    doc: str,
    default: Any = MISSING,
    secret: bool = False,
    check: Callable[[Any], object] | None = None,
) -> Any:
    """Declare a field of a settings dataclass; without a default the variable is required.

    `check` is called with the value, a secret's text; its ValueError is a fault, and must not quote a secret.
    """
    return dataclasses.field(default=default, metadata={"name": name, "doc": doc, "secret": secret, "check": check})


def optional(cls: type, field: str) -> Any:
    """A setting that another class requires, as a field that is None when the variable is not set."""
    (declared,) = (each for each in dataclasses.fields(cls) if each.name == field)
    return dataclasses.field(default=None, metadata=declared.metadata)


def read(cls: type[T], environ: Mapping[str, str]) -> T:
    """An instance of `cls` filled from the environment. Raises SettingsError with all faults.

    An empty variable counts as not set. A ValueError of the class's own `__post_init__`, which may refuse a
    combination, is reported as a fault too.
    """
    values: dict[str, Any] = {}
    faults: list[str] = []
    for each in _declared(cls):
        try:
            values[each.field] = _value(each, environ)
        except ValueError as fault:
            faults.append(f"{each.name}: {fault}")
    if faults:
        raise SettingsError(faults)
    try:
        return cls(**values)
    except ValueError as fault:
        raise SettingsError([str(fault)]) from None


def secret(name: str, environ: Mapping[str, str]) -> Secret | None:
    """A secret by its variable or file, without a settings class; None when it is not set or unreadable."""
    try:
        text, path = _text(name, environ)
    except ValueError:
        return None
    return Secret(text, path) if text else None


def describe(settings: Any) -> dict[str, str]:
    """The effective values by variable name, for a log line: without secrets and passwords."""
    return {each.name: _shown(getattr(settings, each.field), each) for each in _declared(type(settings))}


def table(classes: Iterable[type]) -> list[tuple[str, str, str]]:
    """(name, default, doc) of every setting, in order of declaration, without duplicates.

    The first class with a variable decides whether it is required.
    """
    rows: dict[str, tuple[str, str, str]] = {}
    for each in (each for cls in classes for each in _declared(cls)):
        default = "required" if each.default is MISSING else _plain(each.default)
        rows.setdefault(each.name, (each.name, default, each.doc))
    return list(rows.values())


def unknown(environ: Mapping[str, str], classes: Iterable[type]) -> list[str]:
    """A sentence for every variable with our prefix that no class declares, usually a typing mistake."""
    names = {each.name for cls in classes for each in _declared(cls)}
    known = names | {f"{name}_FILE" for name in names}
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [_suspicion(name, known) for name in strange]


def masked(text: str) -> str:
    """The text with the passwords in all its URLs hidden."""
    return _PASSWORD_IN_QUERY.sub(rf"\1={HIDDEN}", _PASSWORD_IN_AUTHORITY.sub(rf"\1:{HIDDEN}@", text))


def _declared(cls: type) -> list[_Setting]:
    kinds = typing.get_type_hints(cls, include_extras=True)
    return [
        _Setting(field.name, **field.metadata, kind=kinds[field.name], default=field.default)
        for field in dataclasses.fields(cls)
        if "name" in field.metadata
    ]


def _value(declared: _Setting, environ: Mapping[str, str]) -> Any:
    text, path = _text(declared.name, environ)
    if text:
        value = _converted(declared, text, path)
        if declared.check is not None:
            declared.check(value.reveal() if isinstance(value, Secret) else value)
        return value
    if declared.default is MISSING:
        raise ValueError(f"is required and not set; expected {_expected(declared)}")
    return declared.default


def _text(name: str, environ: Mapping[str, str]) -> tuple[str, Path | None]:
    text, file = environ.get(name, "").strip(), environ.get(f"{name}_FILE", "").strip()
    if text and file:
        raise ValueError(f"is given twice; expected either {name} or {name}_FILE")
    if not file:
        return text, None
    try:
        text = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ValueError(f"the file of {name}_FILE cannot be read ({reason}); expected a readable file") from None
    if not text:
        raise ValueError(f"the file of {name}_FILE is empty; expected the value in it")
    return text, Path(file)


def _converted(declared: _Setting, text: str, path: Path | None) -> Any:
    shape = declared.shape
    if shape is Secret:
        return _secret(declared, text, path)
    if shape is Path:
        return Path(text)
    raw: Any = [part.strip() for part in text.split(",") if part.strip()] if _is_list(shape) else text
    try:
        return msgspec.convert(raw, shape, strict=False)
    except msgspec.ValidationError:
        given = "the value" if declared.secret else repr(masked(text))
        raise ValueError(f"{given} is not valid; expected {_expected(declared)}") from None


def _secret(declared: _Setting, text: str, path: Path | None) -> Secret:
    """The value as a secret. Raises ValueError if its name ends in _URL and it is no URL."""
    if not declared.name.endswith("_URL"):
        return Secret(text, path)
    if not are_server_urls(text):
        raise ValueError(
            "the value is not valid; expected scheme://user:password@host:port/name, "
            "with special characters in the password percent-encoded"
        )
    return Secret(text, path, are_server_urls)


def are_server_urls(text: str) -> bool:
    """Whether this is one URL of a server or, while a password is being changed, several, one per line."""
    urls = text.split()
    return bool(urls) and all(map(is_server_url, urls))


def is_server_url(text: str) -> bool:
    """Whether this is the URL of a server, or of several hosts, with unambiguous parts.

    A driver quotes a URL that it cannot parse, and the port or host it quotes may be a piece of a password that was not
    percent-encoded.
    """
    scheme, found, rest = text.partition("://")
    authority = rest[: re.search(r"[/?#]|$", rest).start()]  # type: ignore[union-attr]
    user, _, hosts = authority.rpartition("@")
    return bool(
        found
        and _SCHEME.fullmatch(scheme)
        and _USER.fullmatch(f"{user}@")
        and all(_HOST.fullmatch(host) for host in hosts.split(","))
        and _PLACE.fullmatch(rest[len(authority) :])
    )


def _is_list(shape: Any) -> bool:
    return typing.get_origin(shape) in (tuple, list, frozenset)


def _expected(declared: _Setting) -> str:
    """The expected value in words."""
    shape, bounds = declared.shape, ""
    if typing.get_origin(shape) is Annotated:
        shape, *notes = typing.get_args(shape)
        bounds = "".join(_bounds(note) for note in notes if isinstance(note, msgspec.Meta))
    if _is_list(shape):
        return "a list separated by commas"
    if typing.get_origin(shape) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(shape)))
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
    words |= {date: "a day, as 2026-11-30"}
    return words.get(shape, "a secret" if declared.secret else "a text") + bounds


def _bounds(meta: msgspec.Meta) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "min_length": "length ≥", "max_length": "length ≤"}
    limits = [f"{sign} {limit}" for name, sign in signs.items() if (limit := getattr(meta, name)) is not None]
    return f" ({', '.join(limits)})" if limits else ""


def _shown(value: Any, declared: _Setting) -> str:
    if value is None or not (declared.secret or isinstance(value, Secret)):
        return _plain(value)
    text = value.reveal() if isinstance(value, Secret) else str(value)
    return masked(text) if "://" in text else HIDDEN


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple | list | frozenset) else masked(str(value))


def _suspicion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.8)
    return f"{name} is not a setting." + (f" Did you mean {near[0]}?" if near else "")
