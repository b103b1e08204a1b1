"""What partners read about both services: the document is valid, and its examples work on running services."""

import json
import uuid
from typing import Any

import pytest
from openapi_spec_validator import validate
from yarl import URL

from intake.partners.letters import RefusedLine, keep
from lookup.web.api import EXAMPLE_CODE
from lookup.web.layout import DEVELOPERS
from ops.http.developer_pages import DOCS, OPENAPI, PROBLEMS
from ops.http.endpoints import Endpoint
from tests.house import House, until
from tests.ops.test_developer_pages import Links
from tests.test_endpoints import every_endpoint

WEBHOOKS = "/api/v1/webhooks"
METHODS = {"get", "put", "post", "patch", "delete"}


def url_of(house: House, service: str) -> str:
    return house.lookup_url if service == "lookup" else house.intake_url


def structure(value: Any) -> Any:
    """A JSON value without what its words and numbers are; a list by its first item."""
    if isinstance(value, dict):
        return {name: structure(each) for name, each in value.items()}
    return [structure(each) for each in value[:1]] if isinstance(value, list) else value is None


@pytest.mark.parametrize("service", ["lookup", "intake"])
async def test_document_is_valid_and_its_examples_are_answered_as_it_says(
    house: House, service: str, writer: Any
) -> None:
    client = house.token.split("_")[1]
    await keep(writer, client, [RefusedLine("a", b"{}", "unknown_agency", "Why.")])
    url = url_of(house, service)
    async with house.http.get(url + OPENAPI) as answer:
        document = await answer.json()
    validate(document)
    for path, item in document["paths"].items():
        for method in METHODS & set(item):
            receipt = (
                await house.receive(agency="G99.01.02")
                if "{code}" in path or "sync" in path
                else dict[str, Any](code="")
            )
            code = receipt["code"]
            if service == "lookup" and code:
                await until(lambda code=code: _visible(house, code))  # type: ignore[misc]
            if "/tasks/{number}/" in path:  # about the second task: the first is the lead's
                task = {"agency": "G99.01", "work": "Thẩm định (ví dụ)"}
                assert (await house.hand_in("POST", f"/api/v1/dossiers/{code}/tasks", task))[0] == 200
            about = path
            if path.startswith(f"{WEBHOOKS}/"):
                created = await _send_example(house, url, "post", WEBHOOKS, document["paths"][WEBHOOKS]["post"], "")
                about = path.replace("{id}", str(created[1]["id"]))
            status, body = await _send_example(house, url, method, about, item[method], code)
            declared, response = next(iter(item[method]["responses"].items()))
            assert str(status) == declared, (method, path, body)
            example = response["content"].get("application/json", {}).get("example")
            assert example is None or structure(body) == structure(example), (method, path)


async def _visible(house: House, code: str) -> bool:
    return (await house.lookup(f"/api/v1/dossiers/{code}"))[0] == 200


async def _send_example(house: House, url: str, method: str, path: str, operation: Any, code: str) -> tuple[int, Any]:
    """The answer to the request that the document shows, about a dossier that there is."""
    headers = {"Authorization": f"Bearer {house.token}"} if "security" in operation else {}
    query: dict[str, str] = {}
    for each in operation.get("parameters", ()):
        example = str(each.get("example", "")).replace(EXAMPLE_CODE, code)
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", example)
        elif each["name"] == "Idempotency-Key":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        elif each["in"] == "query" and "example" in each:
            query[each["name"]] = example
        else:
            assert not each.get("required"), each
    body: bytes | None = None
    if "requestBody" in operation:
        ((media, content),) = operation["requestBody"]["content"].items()
        text = content["example"] if isinstance(content["example"], str) else json.dumps(content["example"])
        headers["Content-Type"], body = media, text.replace(EXAMPLE_CODE, code or EXAMPLE_CODE).encode()
    async with house.http.request(method, url + path, params=query, data=body, headers=headers) as answer:
        if answer.content_type == "application/pdf":
            return answer.status, None
        lines = [json.loads(line) for line in (await answer.text()).splitlines()]
        return answer.status, lines[-1]


@every_endpoint
def test_endpoint_has_an_example_of_all_that_it_needs(endpoint: Endpoint) -> None:
    assert (endpoint.example.body is None) == (endpoint.takes is None)
    for each in endpoint.parameters:
        assert each.example is not None or not each.required, each.name


@pytest.mark.parametrize("service", ["lookup", "intake"])
async def test_docs_show_every_operation_and_lead_to_every_problem(house: House, service: str) -> None:
    url = url_of(house, service)
    async with house.http.get(url + DOCS) as answer:
        assert answer.status == 200
        page = Links(await answer.text())
    async with house.http.get(url + OPENAPI) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        document = await answer.json()
    operations = {each["operationId"] for item in document["paths"].values() for each in item.values()}
    assert operations <= set(page.ids)
    for path, item in document["paths"].items():
        # Generated clients have one function for each, all in a row: `all`, `one` or `done` would say nothing there.
        for noun in ("webhook", "dead_letter", "task"):
            named = f"/{noun.replace('_', '-')}s" in path
            assert not named or all(noun in each["operationId"] for each in item.values()), path
        told = [each for operation in item.values() for each in operation.get("parameters", ())]
        assert [each["name"] for each in told if not each["description"]] == [], path
    async with house.http.get(url + PROBLEMS) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        problems = (await answer.json())["problems"]
    assert {each["page"] for each in problems} - set(page.links) == set()
    for each in problems:
        async with house.http.get(url + each["page"]) as answer:
            assert answer.status == 200
            assert each["title_vi"] in await answer.text()


async def test_servers_of_the_lookup_are_its_public_address_and_of_the_intake_where_it_was_read(house: House) -> None:
    for service, server in (("lookup", "http://127.0.0.1:8080"), ("intake", "/")):
        async with house.http.get(url_of(house, service) + OPENAPI) as answer:
            assert (await answer.json())["servers"] == [{"url": server}]


@pytest.mark.parametrize(
    ("service", "path"),
    [
        ("lookup", f"/api/v1/dossiers/{EXAMPLE_CODE}"),
        ("lookup", "/api/v1/dossiers/1"),
        ("lookup", "/api/v1/nothing"),
        ("intake", f"/api/v1/dossiers/{EXAMPLE_CODE}"),
        ("intake", "/nothing"),
    ],
)
async def test_problem_links_to_the_page_that_explains_it(house: House, service: str, path: str) -> None:
    url = url_of(house, service)
    async with house.http.get(url + path) as answer:
        assert answer.status >= 400
        problem = await answer.json(content_type=None)
        link = URL(answer.links["help"]["url"])
    assert problem["type"] == f"urn:hoso24:problem:{problem['code']}"
    assert link.path == f"/problems/{problem['code']}"
    async with house.http.get(link) as answer:
        assert answer.status == 200
        assert problem["title"] in await answer.text()


async def test_page_for_other_portals_leads_to_the_documentation(house: House) -> None:
    for address in DEVELOPERS.values():
        async with house.http.get(house.lookup_url + address) as answer:
            assert {DOCS, OPENAPI} <= set(Links(await answer.text()).links)
