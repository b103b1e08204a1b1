"""The webhooks of a client over HTTP: made, looked at, changed and removed, by this client and no other."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from intake.outgoing.signatures import Keys, secret_of
from intake.partners.webhooks import MOST
from tests.books import append, receive
from tests.conftest import WEBHOOK_SECRET, Database
from tests.house import intake_at, intake_settings, new_client

URL = "https://partner.example/webhooks"
A = "G99.01.01-261130-0001"
PATH = "/api/v1/webhooks"


class Caller:
    """A client over HTTP."""

    def __init__(self, http: aiohttp.ClientSession, url: str, token: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str = "", content: Any = None) -> tuple[int, Any]:
        """Status and JSON of the answer."""
        options: dict[str, Any] = {} if content is None else {"json": content}
        async with self._http.request(method, f"{self._url}{PATH}{path}", headers=self._headers, **options) as answer:
            return answer.status, await answer.json()

    async def made(self, **fields: Any) -> Any:
        """A new webhook."""
        status, view = await self.call("POST", content={"url": URL} | fields)
        assert status == 201, view
        return view


class Scene:
    """An intake, and clients of it."""

    def __init__(self, database: Database, http: aiohttp.ClientSession, url: str) -> None:
        self._database = database
        self._http = http
        self._url = url

    async def client(self, name: str, agency: str = "G99", actions: tuple[str, ...] = ("follow",)) -> Caller:
        return Caller(self._http, self._url, await new_client(self._database, name, agency, actions))


@pytest.fixture
async def scene(database: Database) -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession() as http, intake_at(intake_settings(database.writer_url)) as url:
        yield Scene(database, http, url)


@pytest.fixture
async def caller(scene: Scene) -> Caller:
    return await scene.client("partner")


async def test_a_new_webhook_is_unproven_and_tells_its_keys_once(caller: Caller, owner: Any) -> None:
    await receive(owner, A)
    view = await caller.made()
    keys = Keys.of(secret_of(WEBHOOK_SECRET), view["id"], 1)
    assert (view["state"], view["secret"], view["public_key"]) == ("unproven", keys.whsec, keys.whpk)
    assert view["lag"] == {"events": 0, "seconds": 0.0}
    assert view["next_attempt_at"] is not None
    assert (view["failures"], view["succeeded_at"], view["last_error"]) == (0, None, None)
    status, again = await caller.call("GET", f"/{view['id']}")
    assert (status, again) == (200, {name: value for name, value in view.items() if name != "secret"})
    assert await caller.call("GET") == (200, {"webhooks": [again]})
    columns = [str(value) for value in (await owner.fetchrow("SELECT * FROM webhook")).values()]
    assert not [each for each in columns if keys.whsec in each or keys.hmac_key.hex() in each]


async def test_the_lag_counts_what_the_client_may_see(scene: Scene, owner: Any) -> None:
    whole, narrow = await scene.client("whole"), await scene.client("narrow", "G99.02")
    views = [await whole.made(), await whole.made(agency="G99.02"), await whole.made(mine=True), await narrow.made()]
    await receive(owner, A)
    await append(owner, A, agency="G99.02.01", came_from="G99.01.01")
    lags = []
    for caller, view in zip((whole, whole, whole, narrow), views, strict=True):
        _, seen = await caller.call("GET", f"/{view['id']}")
        lags.append(seen["lag"]["events"])
        assert (seen["lag"]["seconds"] > 0) is (seen["lag"]["events"] > 0)
    assert lags == [2, 1, 0, 1]


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ({"url": "http://partner.example/"}, 422, "webhook_url_not_allowed"),
        ({"url": "https://127.0.0.1/"}, 422, "webhook_url_not_allowed"),
        ({"url": "https://user:password@partner.example/"}, 422, "webhook_url_not_allowed"),
        ({"url": "https://partner.example:25/"}, 422, "webhook_url_not_allowed"),
        ({"url": "https://partner.example/#"}, 422, "webhook_url_not_allowed"),
        ({"url": ""}, 422, "invalid_content"),
        ({"url": "https://partner.example/" + "x" * 2000}, 422, "invalid_content"),
        ({}, 422, "invalid_content"),
        ({"url": URL, "format": "xml"}, 422, "invalid_content"),
        ({"url": URL, "state": "active"}, 422, "invalid_content"),
        ({"url": URL, "agency": "G98"}, 422, "unknown_agency"),
        ({"url": URL, "agency": "G99.01"}, 403, "out_of_scope"),
    ],
)
async def test_a_webhook_that_cannot_be_made_is_refused(scene: Scene, content: Any, status: int, code: str) -> None:
    caller = await scene.client("narrow", "G99.02")
    answered, problem = await caller.call("POST", content=content)
    assert (answered, problem["code"]) == (status, code)
    assert await caller.call("GET") == (200, {"webhooks": []})


async def test_a_client_has_ten_at_most(caller: Caller) -> None:
    views = [await caller.made() for _ in range(MOST)]
    status, problem = await caller.call("POST", content={"url": URL})
    assert (status, problem["code"]) == (409, "too_many_webhooks")
    await caller.call("DELETE", f"/{views[0]['id']}")
    await caller.made()


async def test_nobody_touches_another_clients_webhook(scene: Scene, caller: Caller, owner: Any) -> None:
    view = await caller.made()
    other = await scene.client("other")
    before = await owner.fetchrow("SELECT * FROM webhook")
    for webhook in (view["id"], "unknownunknown", "%00", "x" * 300):
        for method, path, content in (
            ("GET", "", None),
            ("PATCH", "", {"url": "https://other.example/"}),
            ("DELETE", "", None),
            ("POST", "/resume", {}),
            ("POST", "/rotate", None),
            ("POST", "/ping", None),
        ):
            status, problem = await other.call(method, f"/{webhook}{path}", content)
            assert (status, problem["code"]) == (404, "webhook_not_found"), (webhook, method, path)
    assert await owner.fetchrow("SELECT * FROM webhook") == before
    assert await other.call("GET") == (200, {"webhooks": []})


async def test_a_client_that_may_not_follow_has_none(scene: Scene) -> None:
    caller = await scene.client("reader", actions=("read", "receive"))
    for method, path in (("GET", ""), ("POST", ""), ("GET", "/abcdefgh"), ("POST", "/abcdefgh/ping")):
        status, problem = await caller.call(method, path, {"url": URL} if (method, path) == ("POST", "") else None)
        assert (status, problem["code"]) == (403, "out_of_scope")


async def test_a_new_address_is_proven_and_another_filter_is_not(caller: Caller, owner: Any) -> None:
    view = await caller.made()
    one = f"/{view['id']}"
    await owner.execute("UPDATE webhook SET state = 'active', attempt = 3, page_end = 'c1_'")
    _, same = await caller.call("PATCH", one, {"bulk": False, "agency": "G99.01", "url": URL})
    assert (same["state"], same["failures"], same["bulk"], same["agency"]) == ("active", 3, False, "G99.01")
    assert await owner.fetchval("SELECT page_end FROM webhook") is None  # another page, with an id of its own
    await owner.execute("UPDATE webhook SET page_end = 'c1_', agency = NULL")
    _, moved = await caller.call("PATCH", one, {"url": "https://new.example/x", "agency": None})
    assert (moved["state"], moved["failures"], moved["url"]) == ("unproven", 0, "https://new.example/x")
    assert (moved["agency"], moved["bulk"], moved["mine"]) == (None, False, False)
    assert await owner.fetchval("SELECT page_end FROM webhook") == "c1_"
    status, problem = await caller.call("PATCH", one, {"url": "https://10.0.0.1/"})
    assert (status, problem["code"]) == (422, "webhook_url_not_allowed")


@pytest.mark.parametrize("state", ["paused", "unreachable", "gone", "active"])
async def test_it_goes_on_at_its_cursor_after_a_ping_or_from_now(caller: Caller, owner: Any, state: str) -> None:
    view = await caller.made()
    one = f"/{view['id']}"
    await receive(owner, A)
    stopped = (
        f"UPDATE webhook SET state = '{state}', attempt = 10, page_end = 'c1_', next_at = now() + interval '1 day'"
    )
    for path, content in (("/resume", {}), ("/ping", None)):
        await owner.execute(stopped)
        status, resumed = await caller.call("POST", f"{one}{path}", content)
        assert (status, resumed["state"], resumed["failures"]) == (200, "unproven", 0)
        assert (resumed["cursor"], resumed["lag"]["events"]) == (view["cursor"], 1)
        assert await owner.fetchval("SELECT page_end = 'c1_' AND next_at <= now() FROM webhook")
    await owner.execute(stopped)
    _, now = await caller.call("POST", f"{one}/resume", {"from": "now"})
    assert now["cursor"] > view["cursor"]
    assert (now["lag"], await owner.fetchval("SELECT page_end FROM webhook")) == ({"events": 0, "seconds": 0.0}, None)
    status, problem = await caller.call("POST", f"{one}/resume", {"from": "yesterday"})
    assert (status, problem["code"]) == (422, "invalid_content")


async def test_a_rotation_tells_new_keys_and_the_same_ones_again_while_two_generations_sign(
    caller: Caller, owner: Any
) -> None:
    view = await caller.made()
    status, rotated = await caller.call("POST", f"/{view['id']}/rotate")
    keys = Keys.of(secret_of(WEBHOOK_SECRET), view["id"], 2)
    assert (status, rotated["generation"]) == (200, 2)
    assert (rotated["secret"], rotated["public_key"]) == (keys.whsec, keys.whpk)
    assert rotated["rotated_at"] is not None
    assert "secret" not in (await caller.call("GET", f"/{view['id']}"))[1]
    assert await caller.call("POST", f"/{view['id']}/rotate") == (200, rotated)
    await owner.execute("UPDATE webhook SET rotated_at = rotated_at - interval '1 day'")
    _, later = await caller.call("POST", f"/{view['id']}/rotate")
    assert later["generation"] == 3


async def test_an_address_in_an_allowed_network_may_be_used_for_trials(database: Database) -> None:
    settings = intake_settings(database.writer_url, webhook_networks=("127.0.0.0/8",))
    async with aiohttp.ClientSession() as http, intake_at(settings) as url:
        caller = await Scene(database, http, url).client("partner")
        await caller.made(url="http://127.0.0.1:9000/")
        await caller.made(url="https://127.0.0.1:9000/")
        status, _ = await caller.call("POST", content={"url": "http://10.0.0.1:9000/"})
        assert status == 422


async def test_the_document_describes_deliveries(database: Database) -> None:
    async with (
        aiohttp.ClientSession() as http,
        intake_at(intake_settings(database.writer_url)) as url,
        http.get(f"{url}/openapi.json") as answer,
    ):
        document = await answer.json()
    paths, told = document["paths"], document["webhooks"]
    assert told.keys() == {"page", "ping"}
    headers = {each["name"] for each in told["page"]["post"]["parameters"]}
    assert headers == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    names = [each["operationId"] for part in (paths, told) for item in part.values() for each in item.values()]
    assert len(names) == len(set(names))
