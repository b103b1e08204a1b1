"""Settings: frozen dataclasses whose fields name an environment variable, read in one go.

Any setting may come from a file instead, as NAME_FILE. All faults are reported together, because a deployment has one
log line and no debugger; none of the reports shows a secret. A variable is declared once, in the room that knows what
it means; a class that has it too inherits the declaration or takes it by `optional`.
"""

import dataclasses
import difflib
import logging
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING
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
    """A text that shows itself only when asked by name.

    One that came from a file is read again at every `reveal`, so a rotated password is picked up by the
    next connection; while the file is away, empty or holds what `accepts` refuses, the last one read stands in.
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
                _log.warning("A secret's file cannot be read again: %s.", type(error).__name__)
        return self._text

    def _take(self, text: str) -> None:
        if self._accepts(text):
            self._text = text
        elif text:
            _log.warning("A secret's file holds what cannot be used; the secret stays as it was.")

    def __repr__(self) -> str:
        return HIDDEN

    __str__ = __repr__


class SettingsError(Exception):
    """The settings cannot be used; `faults` has one line for each reason."""

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
        """The type without `None`: a variable that is there is never None."""
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

    `check` is called with what was read, a secret as its text; its ValueError is a fault, and must not quote a secret.
    """
    return dataclasses.field(default=default, metadata={"name": name, "doc": doc, "secret": secret, "check": check})


def optional(cls: type, field: str) -> Any:
    """A setting that another class declares and requires, as a field that is None where the variable is not set."""
    (declared,) = (each for each in dataclasses.fields(cls) if each.name == field)
    return dataclasses.field(default=None, metadata=declared.metadata)


def read(cls: type[T], environ: Mapping[str, str]) -> T:
    """An instance of `cls` filled from the environment. Raises SettingsError with every fault found.

    A variable set to the empty string counts as not set. A ValueError of the class's own `__post_init__`, which may
    refuse a combination, is reported as a fault too.
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
    """One secret by its variable or its file, outside any class; None when it is not set or cannot be read."""
    try:
        text, path = _text(name, environ)
    except ValueError:
        return None
    return Secret(text, path) if text else None


def describe(settings: Any) -> dict[str, str]:
    """The effective values by variable name, fit for a log line: no secret and no password in them."""
    return {each.name: _shown(getattr(settings, each.field), each) for each in _declared(type(settings))}


def table(classes: Iterable[type]) -> list[tuple[str, str, str]]:
    """(name, default, doc) of every setting, in order of declaration, each variable once.

    The first class that has a variable says whether it is required.
    """
    rows: dict[str, tuple[str, str, str]] = {}
    for each in (each for cls in classes for each in _declared(cls)):
        default = "required" if each.default is MISSING else _plain(each.default)
        rows.setdefault(each.name, (each.name, default, each.doc))
    return list(rows.values())


def unknown(environ: Mapping[str, str], classes: Iterable[type]) -> list[str]:
    """A sentence for every variable with our prefix that no class declares: most often a typing mistake."""
    names = {each.name for cls in classes for each in _declared(cls)}
    known = names | {f"{name}_FILE" for name in names}
    strange = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    return [_suspicion(name, known) for name in strange]


def masked(text: str) -> str:
    """The text with the passwords of all URLs in it hidden."""
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
    """The value as a secret; one whose name ends in _URL has to be a URL, whoever is to read it."""
    if not declared.name.endswith("_URL"):
        return Secret(text, path)
    if not are_server_urls(text):
        raise ValueError(
            "the value is not valid; expected scheme://user:password@host:port/name, "
            "with whatever is special in the password percent-encoded"
        )
    return Secret(text, path, are_server_urls)


def are_server_urls(text: str) -> bool:
    """Whether this is one URL of a server or, while a password is being changed, several, one a line."""
    urls = text.split()
    return bool(urls) and all(map(is_server_url, urls))


def is_server_url(text: str) -> bool:
    """Whether this is the URL of a server, or of several, whose parts nobody can take for one another.

    A driver that cannot make sense of a URL quotes it, and what it takes for a port or for the name of a host is then
    most often a piece of a password that was not percent-encoded.
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
    """What the variable should hold, in words."""
    shape, bounds = declared.shape, ""
    if typing.get_origin(shape) is Annotated:
        shape, *notes = typing.get_args(shape)
        bounds = "".join(_bounds(note) for note in notes if isinstance(note, msgspec.Meta))
    if _is_list(shape):
        return "a list separated by commas"
    if typing.get_origin(shape) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(shape)))
    words = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}
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
    return f"{name} is not a setting." + (f" Is {near[0]} meant?" if near else "")
