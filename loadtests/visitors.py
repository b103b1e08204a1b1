"""Who comes on any day: citizens, slow phones, a portal, an office. Each checks every answer, and remembers what it has
been shown."""

import logging
import random
import time
import uuid
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urlencode

import gevent
import gevent.event
from locust import FastHttpUser, between, task
from locust.contrib.fasthttp import FAILURE_EXCEPTIONS

from loadtests import addresses, answers, pages, phones, slow_line
from loadtests.answers import ACCEPTING, Answer, Asked, Failure, Late, Shown, Status, Unavailable, Wrong
from loadtests.codes import MISTYPED, Dossier, Shelf, ShownVersions, address, new_number, spelled, unknown
from loadtests.pages import FIELDS, FORMS, OWN_LISTS, RATINGS, Page
from loadtests.target import Target, submission, transition
from loadtests.verdict import INTAKE, OFFICES

log = logging.getLogger(__name__)
T = TypeVar("T")

WHO = "who"
"""In a request's context: whose tally it is counted in."""

FROM_A_CACHE = "from_a_cache"
"""In a request's context: whether the answer says that it came from a cache; missing where it does not say."""

CHANGE = "CHANGE"
"""The type under which Locust counts how long a change took to be visible; it is no HTTP request."""

WATCHING = "watching"
"""In a request's context: the more of these there are, the later a change was. The good ones count for nothing."""

GIVE_UP = 5.0
"""Seconds after which a change is not waited for any longer."""

DOSSIER = "/api/v1/dossiers/{code}"
WATCHED = f"{DOSSIER} watched"
KEYS_KEPT = 10
"""Dossiers whose keys a citizen's browser holds before its owner clears it."""
ON_A_DESK = 20
FOLLOWED = 100
EXPLAINED = 10
"""Failures of each kind that the log explains."""


@dataclass
class LocustRun:
    """What all visitors of a run share. Bounded, however long the run."""

    target: Target
    statuses: Mapping[str, Status]
    shelf: Shelf
    visible_within: float
    """Seconds a change may take to be visible."""
    walked: bool = False
    """Whether codes are counted up, so that a client asks for the next one before it is given out."""
    nine: gevent.event.Event = field(default_factory=gevent.event.Event)
    """Set when it is nine o'clock on results day."""
    explained: Counter[str] = field(default_factory=Counter)
    """How many failures of each kind have been explained in the log."""


class Visitor(FastHttpUser):
    """Any visitor: sends requests, and has each answer judged before going on."""

    abstract = True
    host = "http://127.0.0.1"  # Locust wants one; every request names its own
    network_timeout = 10.0  # the service's own deadlines end before
    connection_timeout = 5.0
    shared: ClassVar[LocustRun]  # set when a test starts
    who = "citizens"

    def on_start(self) -> None:
        """Begin with nothing seen, and not all at the same moment."""
        self.seen = ShownVersions()
        self.take_another_phone()
        gevent.sleep(random.uniform(0, 1))

    def take_another_phone(self) -> None:
        """Another person with another browser, which holds nothing yet."""
        self.client.cookiejar.clear()
        self.address = self.find_address()
        self.language = pick_language()
        self.phone = phones.headers(self.language)
        self.drawn: set[str] = set()
        """Addresses of style sheets and icons that the browser holds."""

    def find_address(self) -> str:
        """Where this visitor comes from."""
        return addresses.citizen()

    def context(self) -> dict[str, Any]:
        """What Locust hands on to the counting."""
        return {WHO: self.who}

    def ask(self, method: str, url: str, check: Callable[[Answer], T], *, name: str, **request: Any) -> T | None:
        """What `check` makes of the answer; None when it was not good, which is then a failure of that name.

        A `url` that begins with a slash is the lookup's.
        """
        headers = {addresses.HEADER: self.address} | request.pop("headers", {})
        url = f"{self.shared.target.lookup}{url}" if url.startswith("/") else url
        with self.client.request(
            method, url, name=name, headers=headers, catch_response=True, allow_redirects=False, **request
        ) as response:
            response.request_meta["context"] |= _source(response)
            try:
                result = _judged(check, response)
            except Failure as failure:
                self._explain(method, name, failure)
                response.failure(failure)
                return None
            response.success()
            return result

    def look_up(
        self, dossier: Dossier, *, holder: bool = False, watching: bool = False, name: str = DOSSIER
    ) -> Shown | None:
        """The dossier's JSON, for anyone or for its holder. `watching`: one of many, for what it will show."""
        return self.ask(
            "GET",
            f"/api/v1/dossiers/{dossier.path}",
            lambda answer: self.seen.note(answers.record(answer, dossier.code, self.shared.statuses, holder=holder)),
            name=f"{name} + key" if holder else name,
            headers={"Hoso24-Key": dossier.key} if holder else {},
            context={WATCHING: watching},
        )

    def look_again(self, shown: Shown) -> Shown | None:
        """The same once more, sending the ETag of what is already here."""
        return self.ask(
            "GET",
            f"/api/v1/dossiers/{address(shown.code)}",
            lambda answer: self.seen.note(answers.asked_again(answer, shown, self.shared.statuses)),
            name=f"{DOSSIER} + If-None-Match",
            headers={"If-None-Match": shown.etag},
        )

    def browse(
        self, url: str, check: Callable[[Answer], T], *, name: str, form: Mapping[str, str] | None = None
    ) -> T | None:
        """The same by a phone's browser. `form`: what a form on a page sends."""
        if form is None:
            return self.ask("GET", url, check, name=name, headers=self.phone)
        headers = self.phone | {"Content-Type": "application/x-www-form-urlencoded"}
        return self.ask("POST", url, check, name=name, headers=headers, data=urlencode(form))

    def open_page(self, dossier: Dossier, *, at: str = "") -> Page | None:
        """The dossier's page under its own address, or `at` another one of it; its holder's where the browser has the
        key in a cookie. What pages are drawn with is fetched on a first visit.
        """
        path, name, judged = self._page_of(dossier)
        page = self.browse(at or path, partial(pages.page, **judged), name=name)
        self.draw(page.linked if page else ())
        return page

    def check_again(self, dossier: Dossier, page: Page) -> Page | None:
        """What "check again" on that page leads to: the same address, with the tag of the page that is here."""
        path, name, judged = self._page_of(dossier)
        if page.etag is None:
            return self.open_page(dossier)
        check, headers = partial(pages.again, before=page, **judged), self.phone | {"If-None-Match": page.etag}
        return self.ask("GET", path, check, name=name.replace("{code}", "{code} again"), headers=headers)

    def open_details(self, dossier: Dossier, *, typed: bool = False) -> bool:
        """The holder's page, by the receipt's link or by its key typed on the page: then the browser has a cookie."""
        path, name = f"{FORMS[self.language]}/{dossier.path}", f"{FORMS[self.language]}/{{code}}"
        check = partial(answers.moved, status=303, location=f"{path}?details=shown")
        if typed:
            opened = self.browse(path, check, name=f"{name} typed + key", form={"key": dossier.key})
        else:
            opened = self.browse(f"{path}?key={quote(dossier.key)}", check, name=f"{name}?key=")
        return opened is not None and self.open_page(dossier, at=opened) is not None

    def draw(self, linked: Iterable[str]) -> None:
        """Fetch what the browser lacks. Good answers count for nothing: these files are no lookups."""
        for url in linked:
            if url not in self.drawn:
                self.drawn.add(url)
                kind, context = url.partition("?")[0], {WATCHING: True}
                self.ask("GET", url, pages.drawn_with, name=kind, headers=self.phone, context=context)

    def _page_of(self, dossier: Dossier) -> tuple[str, str, dict[str, Any]]:
        """Path, name, and what the page is judged by."""
        form = FORMS[self.language]
        path = f"{form}/{dossier.path}"
        holder = any(cookie.path == path and not cookie.is_expired() for cookie in self.client.cookiejar)
        judged = {"code": dossier.code, "language": self.language, "known": self.shared.statuses, "holder": holder}
        return path, f"{form}/{{code}}{' + cookie' if holder else ''}", judged

    def report(self, kind: str, name: str, seconds: float, failure: Failure | None, **context: Any) -> None:
        """Have Locust count what its own client did not send."""
        if failure is not None:
            self._explain(kind, name, failure)
        self.environment.events.request.fire(
            request_type=kind,
            name=name,
            response_time=seconds * 1000,
            response_length=0,
            exception=failure,
            context=self.context() | context,
            start_time=time.time() - seconds,
        )

    def _explain(self, method: str, name: str, failure: Failure) -> None:
        if self.shared.explained[failure.kind] < EXPLAINED:
            self.shared.explained[failure.kind] += 1
            log.warning("%s %s: %r %s", method, name, failure, failure.detail)


class Citizen(Visitor):
    """Opens a link, types a code, scans the receipt; checks again; mistypes now and then."""

    weight = 7
    wait_time = between(1, 4)

    @task(5)
    def open_link(self) -> None:
        """The page behind a link, at times checked again a moment later."""
        dossier = self.shared.shelf.pick()
        page = self.open_page(dossier)
        while page and random.random() < 0.3:
            _think()
            page = self.check_again(dossier, page)

    @task(3)
    def type_code(self) -> None:
        """The form, which is open already at times: any spelling leads to the one address."""
        dossier, form = self.shared.shelf.pick(), FORMS[self.language]
        if random.random() < 0.5:
            self.draw(self.browse(form, partial(pages.form, language=self.language), name=form) or ())
        typed = self.browse(
            f"{form}?{FIELDS[self.language]}={quote(spelled(dossier.code))}",
            partial(answers.moved, status=301, location=f"{form}/{dossier.path}"),
            name=f"{form}?{FIELDS[self.language]}=",
        )
        if typed:
            self.open_page(dossier)

    @task(4)
    def read_json(self) -> None:
        """What a phone's application asks for, and asks for again."""
        shown = self.look_up(self.shared.shelf.pick())
        while shown and shown.etag and random.random() < 0.4:
            _think()
            shown = self.look_again(shown)

    @task(2)
    def read_json_as_holder(self) -> None:
        """The same with the receipt at hand."""
        self.look_up(self.shared.shelf.pick(), holder=True)

    @task(2)
    def scan_receipt(self) -> None:
        """The QR code, or the key typed on the page: it is in a URL at most once, then in a cookie, which stays until
        the details are hidden.
        """
        dossier = self.shared.shelf.pick()
        if not self.open_details(dossier, typed=random.random() < 0.3):
            return
        path = f"{FORMS[self.language]}/{dossier.path}"
        if random.random() < 0.3:
            check, name = partial(answers.moved, status=303, location=f"{path}?details=hidden"), FORMS[self.language]
            if hidden := self.browse(path, check, name=f"{name}/{{code}} hidden + cookie", form={"hide": "1"}):
                self.open_page(dossier, at=hidden)
        elif random.random() < 0.5:
            _think()
            self.open_page(dossier)
        if len(self.client.cookiejar) > 2 * KEYS_KEPT:  # each under the addresses of both languages
            self.client.cookiejar.clear()

    @task(1)
    def say_how_it_was(self) -> None:
        """A rating, which the page thanks for; a network that sends many is refused."""
        form = {"status": str(random.choice([*self.shared.statuses.values()]).number), "score": "satisfied"}
        url = RATINGS[self.language]
        if self.browse(url, partial(answers.moved, status=303, location=url), name=url, form=form):
            self.browse(url, partial(pages.other, status=200, language=self.language), name=f"{url} thanks")

    @task(1)
    def keep_own_list(self) -> None:
        """A dossier into this browser's own list, which is then shown."""
        dossier, url = self.shared.shelf.pick(), OWN_LISTS[self.language]
        check = partial(answers.moved, status=303, location=url)
        if self.browse(url, check, name=f"{url} remembered", form={"code": dossier.code, "remember": "1"}):
            listed = partial(pages.own_list, code=dossier.code, language=self.language, known=self.shared.statuses)
            self.browse(url, listed, name=url)

    @task(1)
    def ask_for_none(self) -> None:
        """A code that could be one and is not: 404."""
        code, form = unknown(), FORMS[self.language]
        if random.random() < 0.5:
            check = partial(pages.other, status=404, language=self.language)
            self.browse(f"{form}/{code}", check, name=f"{form}/{{code}} unknown")
        else:
            problem = partial(answers.problem, status=404, code="dossier_not_found")
            self.ask("GET", f"/api/v1/dossiers/{code}", problem, name=f"{DOSSIER} unknown")

    @task(1)
    def mistype(self) -> None:
        """What cannot be a code: 400."""
        typed, form = quote(random.choice(MISTYPED)), f"{FORMS[self.language]}?{FIELDS[self.language]}="
        if random.random() < 0.5:
            self.browse(
                f"{form}{typed}", partial(pages.other, status=400, language=self.language), name=f"{form} mistyped"
            )
        else:
            problem = partial(answers.problem, status=400, code="malformed_code")
            self.ask("GET", f"/api/v1/dossiers/{typed}", problem, name=f"{DOSSIER} mistyped")


class SlowPhone(Visitor):
    """A phone at the edge of its network: a page comes slowly, or the request goes slowly. What counts as time is the
    lookup's own, from the last byte sent to the first one back."""

    weight = 1
    wait_time = between(2, 6)

    @task(2)
    def read_slowly(self) -> None:
        """A page, two kilobytes at a time."""
        self._open(slow_line.SLOW_READER, "read slowly")

    @task(1)
    def send_slowly(self) -> None:
        """A page, asked for in small pieces."""
        self._open(slow_line.SLOW_SENDER, "asked for slowly")

    def _open(self, line: slow_line.Line, how: str) -> None:
        dossier, began = self.shared.shelf.pick(), time.perf_counter()
        path, name, judged = self._page_of(dossier)
        failure: Failure | None = None
        try:
            sent = self.phone | {addresses.HEADER: self.address}
            reply = slow_line.get(f"{self.shared.target.lookup}{path}", sent, line)
            seconds = reply.seconds
            _checked(lambda: pages.page(reply.answer, **judged))
        except Failure as problem:
            failure, seconds = problem, time.perf_counter() - began
        self.report("GET", f"{name} {how}", seconds, failure)


class Portal(Visitor):
    """A provincial portal: looks many up at once, links deeply, and follows some by ETag."""

    weight = 1
    wait_time = between(0.5, 2)
    who = "portals"

    def find_address(self) -> str:
        """A portal's servers have their own."""
        return addresses.portal()

    def on_start(self) -> None:
        """Begin following none."""
        super().on_start()
        self.followed: OrderedDict[str, Shown] = OrderedDict()

    @task(4)
    def look_many_up(self) -> None:
        """A batch, some with their keys, some spelled as people do, some of no dossier."""
        asked = [self._item() for _ in range(random.randint(20, 100))]
        items = [{"code": each.sent} | ({"key": each.key} if each.key else {}) for each in asked]
        self.ask(
            "POST",
            "/api/v1/lookups",
            lambda answer: [self.seen.note(shown) for shown in answers.batch(answer, asked, self.shared.statuses)],
            name="/api/v1/lookups",
            json={"dossiers": items},
        )

    @task(2)
    def link_deeply(self) -> None:
        """A page from the portal's own."""
        self.open_page(self.shared.shelf.pick())

    @task(2)
    def follow_one_more(self) -> None:
        """Begin to follow a dossier; the last ones looked at are kept."""
        shown = self.look_up(self.shared.shelf.pick())
        if shown and shown.etag:
            self._keep(shown)

    @task(4)
    def ask_whether_changed(self) -> None:
        """A conditional request for one of those followed; one that follows none yet begins to."""
        if not self.followed:
            self.follow_one_more()
            return
        shown = self.look_again(random.choice(list(self.followed.values())))
        if shown and shown.etag:
            self._keep(shown)

    @task(1)
    def spell_freely(self) -> None:
        """A code as the portal's users type it, in an API address: moved to the canonical one."""
        dossier = self.shared.shelf.pick()
        self.ask(
            "GET",
            f"/api/v1/dossiers/{quote(' ' + dossier.code.lower())}",
            partial(answers.moved, status=301, location=f"/api/v1/dossiers/{dossier.path}"),
            name=f"{DOSSIER} freely spelled",
        )

    def _item(self) -> Asked:
        if random.random() < 0.03:
            code = unknown()
            return Asked(code, None)
        dossier = self.shared.shelf.pick()
        sent = spelled(dossier.code) if random.random() < 0.1 else dossier.code
        return Asked(sent, dossier.code, dossier.key if random.random() < 0.2 else None)

    def _keep(self, shown: Shown) -> None:
        self.followed[shown.code] = shown
        if len(self.followed) > FOLLOWED:
            self.followed.popitem(last=False)


class Office(Visitor):
    """An office's system: takes dossiers in, moves them on, and looks whether the public sees it in time."""

    weight = 2
    wait_time = between(0.3, 1.5)
    who = OFFICES

    def on_start(self) -> None:
        """Begin with one dossier on the desk, moved on once. No other office moves what lies there."""
        super().on_start()
        self.desk: list[Dossier] = []
        self.changes = 0
        self.take_in()
        self.move_on()

    @task(3)
    def take_in(self) -> None:
        """A new dossier: all find it with the receipt there; where codes are counted up, only its holder."""
        if len(self.desk) >= ON_A_DESK:
            self.desk.pop(0)
        content, key = submission(), _idempotency_key()
        url = f"{self.shared.target.intake}/api/v1/dossiers"
        receipt = self._send("POST", url, content, key, answers.receipt, name="/api/v1/dossiers")
        if receipt is None:
            return
        dossier = Dossier.taken_in(receipt)
        if random.random() < 0.2:
            check = partial(answers.repeated, status=201, first=receipt)
            self._send("POST", url, content, key, check, name="/api/v1/dossiers repeated")
        elif random.random() < 0.1:
            other = content | {"applicant": {"name": "Trần Thị Ví Dụ (hư cấu)"}}
            check = partial(answers.problem, status=422, code="idempotency_key_reused")
            self._send("POST", url, other, key, check, name="/api/v1/dossiers key reused")
        if random.random() < 0.5:
            found = self.look_up(dossier, holder=True, name=f"{DOSSIER} just taken in") is not None
            if found:
                self.desk.append(dossier)
        else:
            found = self._see_through(dossier, new=True)
        if found:
            self.shared.shelf.put(dossier)

    @task(6)
    def move_on(self) -> None:
        """One of the moves its status allows, expecting the version the office knows."""
        dossier = self._from_desk()
        if dossier is not None:
            self.move(dossier, random.choice(self.shared.statuses[dossier.status].ways_on(accepted=dossier.accepted)))

    def move(self, dossier: Dossier, to: str) -> None:
        """Move it to that status, and look whether the public sees it; a tenth of the moves are repeated."""
        content = transition(to, dossier.version) | {"department": "Phòng Chế độ (hư cấu)"}
        key, url = _idempotency_key(), self._url(dossier, "transitions")
        accepts = not dossier.accepted and to in ACCEPTING
        check = partial(answers.changed, code=dossier.code, version=dossier.version + 1, accepts=accepts)
        answer = self._send("POST", url, content, key, check, name=f"{DOSSIER}/transitions")
        if answer is None:
            return
        dossier.status, dossier.version, dossier.accepted = to, answer["version"], dossier.accepted or accepts
        self._see_through(dossier)
        if random.random() < 0.1:
            check = partial(answers.repeated, status=200, first=answer)
            self._send("POST", url, content, key, check, name=f"{DOSSIER}/transitions repeated")

    @task(1)
    def bind_number(self) -> None:
        """The official number, under which the public then finds the same dossier."""
        dossier = self._from_desk()
        if dossier is None:
            return
        if dossier.number is not None:
            self.desk.append(dossier)
            return
        content = {"number": new_number(), "expected_version": dossier.version}
        check = partial(answers.changed, code=dossier.code, version=dossier.version + 1)
        url, name = self._url(dossier, "official-number"), f"{DOSSIER}/official-number"
        answer = self._send("PUT", url, content, _idempotency_key(), check, name=name)
        if answer is None:
            return
        dossier.number, dossier.version = answer["official_number"], answer["version"]
        if self._see_through(dossier):
            self.ask(
                "GET",
                f"/api/v1/dossiers/{address(answer['official_number'])}",
                lambda answer: self.seen.note(answers.record(answer, dossier.code, self.shared.statuses)),
                name="/api/v1/dossiers/{number}",
            )

    @task(1)
    def set_right(self) -> None:
        """A slip of the pen, corrected, and the lookup key once more for an applicant who has lost the receipt."""
        dossier = self._from_desk()
        if dossier is None:
            return
        content = {"reason": "Nhập sai (ví dụ).", "subject": f"Đề nghị {uuid.uuid4()} (hư cấu)"}
        check = partial(answers.changed, code=dossier.code, version=dossier.version + 1)
        url, name = self._url(dossier, "corrections"), f"{DOSSIER}/corrections"
        answer = self._send("POST", url, content, _idempotency_key(), check, name=name)
        if answer is None:
            return
        dossier.version = answer["version"]
        again = partial(answers.key_again, dossier=dossier.code, key=dossier.key)
        self._send("POST", self._url(dossier, "key"), {}, _idempotency_key(), again, name=f"{DOSSIER}/key")
        self._see_through(dossier)

    @task(1)
    def move_wrongly(self) -> None:
        """A move that is not allowed, or one from a version long gone: refused, and nothing changes."""
        if not self.desk:
            return
        dossier = random.choice(self.desk)
        url, name = self._url(dossier, "transitions"), f"{DOSSIER}/transitions"
        if random.random() < 0.5:
            content: dict[str, Any] = {"to": dossier.status, "expected_version": dossier.version + 1}
            check = partial(answers.outrun, status=412, code="version_mismatch", current=dossier.status)
            self._send("POST", url, content, _idempotency_key(), check, name=f"{name} from another version")
        else:
            allowed = set(self.shared.statuses[dossier.status].next)
            content = {"to": random.choice(sorted(self.shared.statuses.keys() - allowed))}
            check = partial(answers.move_refused, allowed=allowed, current=dossier.status)
            self._send("POST", url, content, _idempotency_key(), check, name=f"{name} not allowed")

    def _from_desk(self) -> Dossier | None:
        """Off the desk, until it is known what became of it."""
        return self.desk.pop(random.randrange(len(self.desk))) if self.desk else None

    def _see_through(self, dossier: Dossier, *, new: bool = False) -> bool:
        """Whether the public sees the change; back on the desk with it, if anything may follow."""
        self.changes += 1
        visible = self._watch(dossier, new=new) if self.changes % 10 else self._ask_for_exactly(dossier)
        if visible and not self.shared.statuses[dossier.status].final:
            self.desk.append(dossier)
        return visible

    def _watch(self, dossier: Dossier, *, new: bool) -> bool:
        """Ask until the change is visible, and record how long after the intake's answer that was."""
        began = time.perf_counter()
        visible, late, waited = False, None, 0.0
        while not visible and waited < GIVE_UP:
            guessed = new and self.shared.walked
            shown = self._look_for(dossier) if guessed else self.look_up(dossier, watching=True, name=WATCHED)
            waited = time.perf_counter() - began
            visible = shown is not None and shown.version >= dossier.version
            if not visible:
                gevent.sleep(0.02)
        if not visible:
            late = Late("not visible at all before the office gave up")
        elif waited > self.shared.visible_within:
            late = Late("visible too late")
        self.report(CHANGE, "change visible", waited, late)
        return visible

    def _look_for(self, dossier: Dossier) -> Shown | None:
        """A new dossier's JSON, for anyone; None also while the public is told of none, as for any change in time."""

        def check(answer: Answer) -> Shown | None:
            shown = answers.new(answer, dossier.code, self.shared.statuses)
            return self.seen.note(shown) if shown else None

        url = f"/api/v1/dossiers/{dossier.path}"
        return self.ask("GET", url, check, name=WATCHED, context={WATCHING: True})

    def _ask_for_exactly(self, dossier: Dossier) -> bool:
        """Nothing to wait for: a request that names the version gets it, or 503."""
        shown = self.ask(
            "GET",
            f"/api/v1/dossiers/{dossier.path}?at_least={dossier.version}",
            lambda answer: self.seen.note(
                answers.exact(answer, dossier.code, self.shared.statuses, least=dossier.version)
            ),
            name=f"{DOSSIER}?at_least=",
        )
        return shown is not None

    def _url(self, dossier: Dossier, what: str) -> str:
        return f"{self.shared.target.intake}/api/v1/dossiers/{dossier.path}/{what}"

    def _send(
        self, method: str, url: str, content: Mapping[str, Any], key: str, check: Callable[[Answer], T], *, name: str
    ) -> T | None:
        headers = self.shared.target.authorization | {"Idempotency-Key": f'"{key}"'}
        context = {WHO: INTAKE}
        return self.ask(method, url, check, name=f"intake {name}", json=content, headers=headers, context=context)


def _judged(check: Callable[[Answer], T], response: Any) -> T:
    return _checked(lambda: check(_answer(response)))


def _checked(check: Callable[[], T]) -> T:
    try:
        return check()
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Wrong("an answer of another shape than the contract's", repr(error)) from error


def _answer(response: Any) -> Answer:
    """Locust's response as the checks know it."""
    if response.status_code == 0:
        raise Unavailable("no answer", repr(response.error))
    try:
        body = bytes(response.content or b"")
    except FAILURE_EXCEPTIONS as error:
        raise Unavailable("an answer that broke off", repr(error)) from None
    return Answer(response.status_code, {name.lower(): value for name, value in response.headers.items()}, body)


def _source(response: Any) -> dict[str, bool]:
    """What Cache-Status (RFC 9211) says, if anything."""
    said = (response.headers or {}).get("cache-status", "")
    return {FROM_A_CACHE: "; hit" in said} if said else {}


def _idempotency_key() -> str:
    return str(uuid.uuid4())


def pick_language() -> str:
    """The language of one person."""
    return "vi" if random.random() < 0.85 else "en"


def _think() -> None:
    gevent.sleep(random.uniform(0.3, 1.5))
