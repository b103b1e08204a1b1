"""Forms that the desk's pages send: their fields, the version they were made from, and the key that makes them one."""

import hashlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from intake.books.ledger import KeyedRequest
from intake.desk.officers import Officer
from ops.errors import Malformed
from ops.http.bodies import read_body

ONCE: Final = "once"
"""The field that holds a form's key: the same form sent twice is done once."""
VERSION: Final = "version"
"""The field that holds the version of the dossier that the officer saw."""
OVERRIDE: Final = "override"
"""The field that says why something is done although a rule of the service asks for a reason."""
MOST_FIELDS: Final = 200


class Form(Mapping[str, str]):
    """A form's fields in order; a name stands for its first value, without blanks around it."""

    def __init__(self, address: str, fields: Sequence[tuple[str, str]]) -> None:
        self.address = address
        self.fields = tuple(fields)
        self._first = dict(reversed(self.fields))

    def __getitem__(self, name: str) -> str:
        return self._first[name].strip()

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def all(self, name: str) -> list[str]:
        """All values of a name that are not blank."""
        return [value.strip() for each, value in self.fields if each == name and value.strip()]

    @property
    def version(self) -> int | None:
        """The version that the officer saw; None for a form about no dossier. Raises Malformed."""
        text = self.get(VERSION, "")
        if not text:
            return None
        if not text.isascii() or not text.isdecimal() or len(text) > 9:
            raise Malformed(f"{VERSION} is no number.")
        return int(text)

    def keyed(self, officer: Officer) -> KeyedRequest:
        """This form as a request that is done once for this officer. Raises Malformed for one without its key."""
        try:
            once = uuid.UUID(self.get(ONCE, ""))
        except ValueError:
            raise Malformed(f"{ONCE} is missing.") from None
        sent = msgspec.json.encode([officer.actor, self.address, self.fields])
        return KeyedRequest(officer.client(), str(once), hashlib.sha256(sent).digest())

    def with_version(self, version: int) -> "Form":
        """The same form made from another version, to be sent again."""
        return Form(self.address, [(name, str(version) if name == VERSION else value) for name, value in self.fields])


def lines_of(form: Form, name: str) -> list[str]:
    """The lines of a text, those that say something."""
    return [line.strip() for line in form.get(name, "").splitlines() if line.strip()]


def new_once() -> str:
    """A key for a new form."""
    return str(uuid.uuid4())


async def read_form(request: web.Request) -> Form:
    """This request's form. Raises Malformed for more than MOST_FIELDS and for what is no UTF-8, and as read_body."""
    try:
        body = (await read_body(request)).decode("utf-8")
        fields = parse_qsl(body, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise Malformed("This is no form of the desk's.") from None
    return Form(request.path, fields)
