"""What an endpoint takes besides a body: values in its path, its query string and its headers."""

import re
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import msgspec
from multidict import MultiMapping

from ops.errors import Malformed

Query = TypeVar("Query", bound=msgspec.Struct)
_PLACE = re.compile(r"(?P<what>.*) - at `\$\.(?P<name>\w+)[^`]*`", re.DOTALL)
"""How msgspec says what is wrong with which field."""


class InvalidParameter(Malformed):
    """A parameter of the query string is missing, unknown, repeated, or has another value than it may; the detail names
    it."""

    code = "invalid_parameter"
    title = "A parameter in the address is missing, unknown, repeated, or has a value that it cannot have."
    title_vi = "Địa chỉ có tham số bị thiếu, không được hỗ trợ, lặp lại hoặc có giá trị không hợp lệ."


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One value that the handler itself reads from the request; the document for partners shows it.

    `type`: str, int …, with its limits in a `msgspec.Meta`. `says`: one sentence for partners. `example`: a value that
    the endpoint's example sends; required for one in the path. Parameters in the query string that `Endpoint.asks`
    reads are declared by that type instead, and `Authorization` by `Endpoint.action`.
    """

    name: str
    place: Literal["path", "query", "header"]
    says: str
    type: Any = str
    required: bool = False
    example: str | int | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for one in the path that is not required or has no example."""
        if self.place == "path" and (self.example is None or not self.required):
            raise ValueError(f"{self.name} stands in the path: it is required, and needs an example")


def read_query(query: MultiMapping[str], shape: type[Query]) -> Query:
    """The query string as this type: numbers, booleans and dates from their text.

    A field that is a list takes a parameter that may be repeated; of any other, a repeated one is refused. Whether
    unknown ones are refused is the type's `forbid_unknown_fields`. Raises InvalidParameter.
    """
    lists = {each.encode_name for each in msgspec.structs.fields(shape) if _is_list(each.type)}
    moments = {each.encode_name for each in msgspec.structs.fields(shape) if _is_moment(each.type)}
    values: dict[str, Any] = {}
    for name in query:
        sent = query.getall(name)
        if name in lists:
            values[name] = sent
        elif len(sent) > 1:
            raise InvalidParameter(f"{name[:64]}: given more than once")
        elif name in moments and _is_number(sent[0]):  # msgspec would take it for seconds since 1970
            raise InvalidParameter(f"{name}: a moment is written as 2026-12-01T08:00:00+07:00")
        else:
            values[name] = sent[0]
    try:
        asked = msgspec.convert(values, shape, strict=False)
    except msgspec.ValidationError as error:
        found = _PLACE.fullmatch(str(error))
        raise InvalidParameter(f"{found['name']}: {found['what']}" if found else str(error)) from None
    for each in msgspec.structs.fields(shape):
        if each.encode_name in values and getattr(asked, each.name) is None:  # msgspec takes the text "null" for None
            raise InvalidParameter(f"{each.encode_name}: leave it out instead of null")
    return asked


def _is_list(type_: Any) -> bool:
    return isinstance(msgspec.inspect.type_info(type_), msgspec.inspect.ListType)


def _is_moment(type_: Any) -> bool:
    return _has_moment(msgspec.inspect.type_info(type_))


def _has_moment(told: msgspec.inspect.Type) -> bool:
    if isinstance(told, msgspec.inspect.Metadata):
        return _has_moment(told.type)
    if isinstance(told, msgspec.inspect.UnionType):
        return any(map(_has_moment, told.types))
    return isinstance(told, msgspec.inspect.DateTimeType)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
