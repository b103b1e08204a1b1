"""What a right answer looks like: status, headers and content, as the contract has them.

Every check takes an Answer and returns what the visitor goes on with, or raises. Names of failures hold no
code and no number, so that equal failures are counted together; those go into `detail`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SOFT_AGE = 60
"""Seconds: nothing older leaves the lookup unmarked."""

PUBLIC = frozenset({"code", "status", "status_number", "final", "completion", "version"})
SWITCHED_ON = frozenset(
    {"due_on", "submitted_at", "received_at", "finished_at", "returned_at", "official_number", "agency", "service"}
)
"""What an installation may show anyone besides (HOSO24_ANONYMOUS_SHOWS)."""
FOR_THE_HOLDER = SWITCHED_ON - {"due_on"} | {
    *("due_at", "timeline", "action_needed", "receipt"),
    *("origin", "outcome", "reason", "pauses", "supplements", "reappointments"),
}
MARKS = frozenset({"stale", "as_of"})
STEP = frozenset({"at", "status", "agency", "department", "late", "due_at", "task", "work"})
PAUSED = frozenset({"supplement_required", "payment_required", "suspended"})
REASONED = frozenset({"rejected", "withdrawn", "suspended"})
LATER = frozenset({"status_unavailable", "overloaded"})
"""What is said of an item of a batch instead of a 503."""


class Failure(Exception):
    """An answer that was not good. `name` is what Locust counts it under."""

    kind = "failure"

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(name)
        self.detail = detail

    def __repr__(self) -> str:
        return f"{self.kind}: {self}"


class Wrong(Failure):
    """The answer contradicts the contract."""

    kind = "wrong"


class Unavailable(Failure):
    """No answer, or one that says to come back later."""

    kind = "unavailable"


class Limited(Failure):
    """Refused by rate (429): neither good nor bad, and not counted."""

    kind = "limited"


class Late(Failure):
    """A change was not visible in time."""

    kind = "late"


class Answer(NamedTuple):
    """An HTTP answer; status 0 means that there was none. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    def expect(self, *statuses: int) -> "Answer":
        """This answer, if it has one of these statuses."""
        if self.status in statuses:
            return self
        if self.status == 0:
            raise Unavailable("no answer")
        if self.status == 429:
            raise Limited("answered 429")
        if self.status == 503 and "retry-after" not in self.headers:
            raise Wrong("answered 503 without Retry-After")
        if self.status in (502, 503, 504):
            raise Unavailable(f"answered {self.status}{self._why()}")
        due = " or ".join(map(str, statuses))
        raise Wrong(f"answered {self.status}, {due} was due", self.body[:200].decode(errors="replace"))

    def _why(self) -> str:
        """The code of a refusal (RFC 9457), in brackets: one of a closed set, so that equal ones are counted as one."""
        if not self.headers.get("content-type", "").startswith("application/problem+json"):
            return ""
        return f" ({json.loads(self.body)['code']})"

    def json(self) -> Any:
        """The body, which must be JSON."""
        if "json" not in self.headers.get("content-type", ""):
            raise Wrong("not JSON", self.headers.get("content-type", ""))
        return json.loads(self.body)


class Status(NamedTuple):
    """What the lookup publishes about a status. `completion`: the least of any dossier in it."""

    number: int
    final: bool
    completion: float
    next: tuple[str, ...]
    name: str = ""
    name_en: str = ""

    def called(self, language: str) -> str:
        """Its name on a page in this language."""
        return self.name if language == "vi" else self.name_en

    def ways_on(self, *, accepted: bool) -> list[str]:
        """The statuses that may follow; what was accepted is not rejected any more."""
        return [way for way in self.next if not (accepted and way == "rejected")]


ACCEPTING = ("received", "processing")
"""The statuses whose first one accepts a dossier and gives it its receipt; it keeps their completion in a later status
that has less. After a result is corrected it falls."""


def completion(known: Mapping[str, Status], passed: Sequence[str]) -> float:
    """The degree of a dossier that has gone through these statuses, the present one last."""
    return max(known[each].completion for each in (*(step for step in passed[:-1] if step in ACCEPTING), passed[-1]))


def completions(known: Mapping[str, Status], status: str) -> frozenset[float]:
    """The degrees that dossiers of this status may have, when it is not known what they have gone through."""
    ways = [
        (step, status) for step in ACCEPTING if step in known and any(status in each.next for each in known.values())
    ]
    return frozenset(completion(known, way) for way in ((status,), *ways))


class Shown(NamedTuple):
    """What a visitor has been shown of a dossier; no version where a page, or a 304, does not say it."""

    code: str
    version: int
    status: str
    stale: bool
    etag: str | None = None


class Asked(NamedTuple):
    """One item of a batch: what is sent, and the code it stands for (None: for no dossier)."""

    sent: str
    code: str | None
    key: str | None = None


def statuses(answer: Answer) -> dict[str, Status]:
    """The statuses by name, from /api/v1/statuses."""
    return {
        each["status"]: Status(
            *(each["status_number"], each["final"], each["completion"], tuple(each["next"])),
            *(each["name"], each["name_en"]),
        )
        for each in answer.expect(200).json()["statuses"]
    }


def record(answer: Answer, code: str, known: Mapping[str, Status], *, holder: bool = False) -> Shown:
    """One dossier's JSON, with the headers that belong to it."""
    shown = view(answer.expect(200).json(), code, known, holder=holder)
    caching = answer.headers.get("cache-control", "")
    etag = answer.headers.get("etag")
    if holder and caching != "private, no-store":
        raise Wrong("a holder's view that may be stored", caching)
    if shown.stale and (etag or "no-store" not in caching):
        raise Wrong("a stale answer that may be stored", caching)
    if not holder and not shown.stale and (not etag or "public" not in caching):
        raise Wrong("an answer that cannot be asked for again by ETag", caching)
    if not shown.stale and int(answer.headers.get("age", 0)) > SOFT_AGE:
        raise Wrong("older than the soft age and not marked", f"{code}: {answer.headers['age']} s")
    return shown._replace(etag=etag)


def new(answer: Answer, code: str, known: Mapping[str, Status]) -> Shown | None:
    """The JSON of a dossier that has only just been taken in, or None: the public is not told of it yet."""
    if answer.status == 404:
        problem(answer, 404, "dossier_not_found")
        return None
    return record(answer, code, known)


def exact(answer: Answer, code: str, known: Mapping[str, Status], least: int) -> Shown:
    """The answer to `?at_least=`: this version or a later one, and nothing that may be stored."""
    shown = view(answer.expect(200).json(), code, known)
    if shown.version < least:
        raise Wrong("an older version than at_least asked for", f"{code}: {shown.version}, asked for {least}")
    if answer.headers.get("cache-control") != "no-store" or "etag" in answer.headers:
        raise Wrong("an answer to at_least that may be stored")
    return shown


def view(content: Mapping[str, Any], code: str, known: Mapping[str, Status], *, holder: bool = False) -> Shown:
    """A dossier as JSON shows it, anonymously or to its holder."""
    fields, wanted = content.keys(), PUBLIC | FOR_THE_HOLDER if holder else PUBLIC
    if missing := wanted - fields:
        raise Wrong("fields are missing", ", ".join(sorted(missing)))
    if leaked := fields - wanted - SWITCHED_ON - MARKS:
        raise Wrong("fields are shown that are not for this visitor", ", ".join(sorted(leaked)))
    if content["code"] != code:
        raise Wrong("another dossier than the one asked for", f"{content['code']}, asked for {code}")
    stale = content.get("stale", False)
    if stale is not ("as_of" in content):
        raise Wrong("stale without as_of, or as_of without stale", code)
    _status(content, known)
    if holder:
        _holder(content, known)
    return Shown(code, int(content["version"]), content["status"], stale)


def _status(content: Mapping[str, Any], known: Mapping[str, Status]) -> None:
    status = known.get(content["status"])
    if status is None:
        raise Wrong("a status that is not published", content["status"])
    of_status = (content["status_number"], content["final"]) == status[:2]
    if not of_status or content["completion"] not in completions(known, content["status"]):
        raise Wrong("number, finality or completion are not those of the status", content["status"])


def _holder(content: Mapping[str, Any], known: Mapping[str, Status]) -> None:
    if content["receipt"]["number"] != content["code"]:
        raise Wrong("the receipt of another dossier", content["code"])
    if any(step.keys() != STEP for step in content["timeline"]):
        raise Wrong("a step of the timeline has other fields than it may have", content["code"])
    if [step["status"] for step in content["timeline"] if not step["late"]][-1] != content["status"]:
        raise Wrong("the timeline ends with another status", content["code"])
    received = ["received"] if content["received_at"] else []  # an import may have left the step out
    if content["completion"] != completion(known, [*received, *(step["status"] for step in content["timeline"])]):
        raise Wrong("a degree of completion that is not the timeline's", content["code"])
    if content["outcome"] and content["status"] not in {"completed", "returned"}:
        raise Wrong("an outcome of work that is not done", content["code"])
    if content["reason"] and content["status"] not in REASONED and content["outcome"] != "refused":
        raise Wrong("a reason where there is nothing to give one for", content["code"])
    lasting = [pause["status"] for pause in content["pauses"] if pause["until"] is None]
    if lasting not in ([], [content["status"]] if content["status"] in PAUSED else []):
        raise Wrong("a pause that lasts beyond its status", f"{content['code']}: {lasting}")


def asked_again(answer: Answer, before: Shown, known: Mapping[str, Status]) -> Shown:
    """The answer to If-None-Match: 304 with the same ETag and no body, or 200 with another one."""
    if answer.expect(200, 304).status == 304:
        if answer.body or answer.headers.get("etag") != before.etag:
            raise Wrong("a 304 with a body or with another ETag", before.code)
        return before
    shown = record(answer, before.code, known)
    if shown.etag == before.etag:
        raise Wrong("sent in full though nothing had changed", before.code)
    return shown


def batch(answer: Answer, asked: Sequence[Asked], known: Mapping[str, Status]) -> list[Shown]:
    """The answer to /api/v1/lookups: one result for each, in the order asked."""
    results = answer.expect(200).json()["results"]
    if [result["code"] for result in results] != [each.sent for each in asked]:
        raise Wrong("the results are not those asked for, in that order")
    shown = (_item(result, each, known) for result, each in zip(results, asked, strict=True))
    return [each for each in shown if each is not None]


def _item(result: Mapping[str, Any], asked: Asked, known: Mapping[str, Status]) -> Shown | None:
    if asked.code is None and result.get("error") == "dossier_not_found":
        return None
    if asked.code is not None and "dossier" in result:
        return view(result["dossier"], asked.code, known, holder=asked.key is not None)
    error = result.get("error", "found")
    if error in LATER:
        raise Unavailable("an item of a batch has no answer", error)
    if error == "too_many_requests":
        raise Limited("an item of a batch is refused by rate")
    raise Wrong("an item of a batch has the wrong result", f"{asked.sent}: {error}")


def problem(answer: Answer, status: int, code: str) -> dict[str, Any]:
    """A refusal of that status and code (RFC 9457)."""
    content: dict[str, Any] = answer.expect(status).json()
    if not answer.headers["content-type"].startswith("application/problem+json"):
        raise Wrong("a refusal that is not problem+json", answer.headers["content-type"])
    if (content.get("code"), content.get("status")) != (code, status):
        raise Wrong(f"refused for another reason than {code}", str(content.get("code")))
    if answer.headers.get("cache-control") != "no-store":
        raise Wrong("a refusal that may be stored", code)
    return content


def outrun(answer: Answer, status: int, code: str, current: str) -> dict[str, Any]:
    """The refusal of a change (409, 412), which says the status that the dossier is in."""
    content = problem(answer, status, code)
    if content["current"] != current:
        raise Wrong("a refused change that names another status than the dossier's", f"{content['current']}, {current}")
    return content


EVENT = frozenset({"specversion", "id", "source", "type", "subject", "time", "sequence", "datacontenttype", "data"})
EVENT_DATA = frozenset(
    {"epoch", "version", "status", "status_number", "final", "occurred_at", "agency", "came_from", "origin"}
    | {"service", "due_at", "official_number", "flags", "bulk"}
)


def changes(answer: Answer) -> dict[str, Any]:
    """A page of the feed: its events, none with a field that partners may not see, in the log's order."""
    content: dict[str, Any] = answer.expect(200).json()
    events = content["events"]
    if any(event.keys() != EVENT or event["data"].keys() != EVENT_DATA for event in events):
        raise Wrong("an event with other fields than the contract's")
    if (order := [event["sequence"] for event in events]) != sorted(set(order)):
        raise Wrong("a page of the feed that is not in the log's order")
    return content


def synced(answer: Answer, due: Mapping[str, int], *, again: bool = False) -> dict[str, Any]:
    """The lines of a synchronisation's answer by id. `due`: the version that each line makes, by its id, in order.

    `again`: the body was sent before, so that nothing is made.
    """
    *lines, end = [json.loads(line) for line in answer.expect(200).body.splitlines()]
    if not end["complete"]:
        raise Unavailable(f"a body that was not worked on to its end ({lines[-1].get('code')})")
    made = [(line["id"], line["version"]) for line in lines if line["result"] in ("created", "applied", "duplicate")]
    if made != list(due.items()):
        other = next((line for line in lines if due.get(line["id"]) != line.get("version")), lines[-1])
        raise Wrong("a line that was answered otherwise than is due", json.dumps(other))
    if any((line["result"] == "duplicate") is not again for line in lines):
        raise Wrong("a line that was recorded twice" if again else "a line that is called a duplicate")
    return {line["id"]: line for line in lines}


def move_refused(answer: Answer, allowed: set[str], current: str) -> dict[str, Any]:
    """The refusal of a move, which says what would have been allowed."""
    content = outrun(answer, 409, "move_not_allowed", current)
    if set(content["allowed"]) != allowed:
        raise Wrong("a refused move that names other moves than those published", str(content["allowed"]))
    return content


def moved(answer: Answer, status: int, location: str) -> str:
    """A redirect to exactly this address."""
    found = answer.expect(status).headers.get("location", "")
    if found != location:
        raise Wrong("a redirect to another address", f"{found}, {location} was due")
    return found


def receipt(answer: Answer) -> dict[str, Any]:
    """The intake's answer to a new dossier: with a receipt, or with a confirmation while it is not accepted."""
    content: dict[str, Any] = answer.expect(201).json()
    if content["version"] != 1:
        raise Wrong("a new dossier of another version than the first", content["code"])
    slip = _slip(content, "confirmation" if content["status"] == "submitted" else "receipt")
    if content["lookup_key"] not in slip["link"]:
        raise Wrong("a receipt whose link does not carry its key", content["code"])
    return content


def changed(answer: Answer, code: str, version: int, *, accepts: bool = False) -> dict[str, Any]:
    """The intake's answer to a change that makes this version; with the receipt where it accepts the dossier."""
    content: dict[str, Any] = answer.expect(200).json()
    if content["version"] != version:
        raise Wrong("a change that made another version", f"{code}: {content['version']}, {version} was due")
    _slip(content, "receipt" if accepts else "")
    return content


def _slip(content: Mapping[str, Any], due: str) -> Mapping[str, Any]:
    """The paper that comes with this answer, and no other; empty where none is `due`."""
    if {name for name in ("receipt", "confirmation") if name in content} != ({due} if due else set()):
        raise Wrong("another paper than is due, or none", f"{content['code']}: {due or 'none'} is due")
    slip: Mapping[str, Any] = content[due] if due else {}
    accepted = slip.get("received_at") is not None
    if slip and (slip["number"], slip["due_at"], accepted) != (content["code"], content["due_at"], due == "receipt"):
        raise Wrong("a receipt that contradicts itself", content["code"])
    return slip


def key_again(answer: Answer, dossier: str, key: str) -> dict[str, Any]:
    """The lookup key of a dossier once more: that of its receipt."""
    content: dict[str, Any] = answer.expect(200).json()
    if (content["code"], content["lookup_key"]) != (dossier, key) or key not in content["link"]:
        raise Wrong("another lookup key than the receipt's", dossier)
    return content


def repeated(answer: Answer, status: int, first: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a repeat under the same Idempotency-Key: the first one, to the letter."""
    content: dict[str, Any] = answer.expect(status).json()
    if content != first:
        raise Wrong("a repeat got another answer than the first time", str(first.get("code")))
    return content
