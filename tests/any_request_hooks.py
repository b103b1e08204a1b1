"""What Schemathesis is told in tests/test_any_request.py: lines of JSON, and a dossier that there is.

It loads this module itself, in its own process (SCHEMATHESIS_HOOKS).
"""

import json
import os
from typing import Any

import schemathesis

LINES = "application/x-ndjson"
CODE = os.environ.get("HOSO24_ANY_REQUEST_CODE", "")


@schemathesis.serializer(LINES)
def lines(_: Any, value: Any) -> Any:
    """A body of one line; what is no JSON goes out as it is."""
    return value if isinstance(value, bytes) else (json.dumps(value) + "\n").encode()


@schemathesis.deserializer(LINES)
def last_line(_: Any, response: Any) -> Any:
    """The last line of an answer, its summary."""
    return json.loads(response.content.splitlines()[-1])


@schemathesis.hook
def map_path_parameters(_: Any, path_parameters: Any) -> Any:
    """Half of the generated codes are replaced by one that there is: what is behind them would be reached never."""
    code = (path_parameters or {}).get("code")
    if CODE and isinstance(code, str) and len(code) % 2:
        path_parameters["code"] = CODE
    return path_parameters


@schemathesis.hook
def map_query(_: Any, query: Any) -> Any:
    """Half of the texts of `from` are replaced by one that the feed takes, and nothing waits there."""
    begin = (query or {}).get("from")
    if isinstance(begin, str) and len(begin) % 2:
        query["from"] = "earliest"
        query.pop("after", None)
        query.pop("wait", None)
    return query
