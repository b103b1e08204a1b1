"""What a client is told of itself, and of the end of its token."""

import time
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from intake.clients import VERIFIED_FOR, Tokens, Unauthenticated, add_client, add_token, end_of, revoke
from ops.stores.postgres import Postgres
from tests.clocks import Clock
from tests.conftest import Database
from tests.house import House, submission

ABOUT = "/api/v1/client"
DOSSIERS = "/api/v1/dossiers"
TODAY = "SELECT (now() AT TIME ZONE interval '7 hours')::date"
EXPIRE = (
    "UPDATE client_token SET created_at = now() - interval '2 days', expires_at = now() - interval '1 s' WHERE n = $1"
)


async def ask(house: House, token: str, path: str = ABOUT, method: str = "GET", content: Any = None) -> Any:
    """Status, JSON and headers of one request."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
    async with house.http.request(method, house.intake_url + path, json=content, headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_client_is_told_what_it_may_do_and_nothing_that_opens_anything(house: House, owner: Any) -> None:
    today = await owner.fetchval(TODAY)
    last_day = today + timedelta(days=400)
    first = await add_client(owner, "portal", "Cổng mẫu (hư cấu)", "G99.01", ("read", "sync"))
    gone = await add_token(owner, "portal")
    await revoke(owner, "portal", 2)
    second = await add_token(owner, "portal", expires_at=end_of(last_day, datetime.now(UTC)))
    status, answer, headers = await ask(house, first)
    assert (status, headers["Cache-Control"], headers["RateLimit-Policy"]) == (200, "no-store", '"read";q=3000;w=60')
    tokens, left = answer.pop("tokens"), [each.pop("left") for each in answer["limits"]]
    assert left in ([600, 2999, 300_000], [600, 3000, 300_000])  # a read is back after 20 ms
    assert answer == {
        "id": "portal",
        "name": "Cổng mẫu (hư cấu)",
        "agency": {"code": "G99.01", "name": answer["agency"]["name"], "name_en": answer["agency"]["name_en"]},
        "actions": ["read", "sync"],
        "sandbox": False,
        "limits": [
            {"name": "write", "quota": 600, "window": 60},
            {"name": "read", "quota": 3000, "window": 60},
            {"name": "sync", "quota": 300_000, "window": 60},
        ],
    }
    assert all(answer["agency"].values())
    assert [(each["n"], each["expires_at"]) for each in tokens] == [
        (1, None),
        (3, f"{last_day}T23:59:59.999999+07:00"),
    ]
    assert all(set(each) == {"n", "created_at", "expires_at", "last_used_on"} for each in tokens)
    said = str((answer, tokens))
    assert not any(token[-43:] in said for token in (first, second, gone))


async def test_every_client_may_ask_about_itself_and_nobody_else_may(house: House, owner: Any) -> None:
    token = await add_client(owner, "portal", "x", "G99", ("follow",))
    assert (await ask(house, token))[0] == 200
    assert (await ask(house, f"{token}x"))[0] == 401
    async with house.http.get(house.intake_url + ABOUT) as response:
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")


# -- the end of a token ------------------------------------------------------------------------------------------


async def test_token_that_ends_within_thirty_days_is_told_with_every_answer(house: House, owner: Any) -> None:
    soon = (await owner.fetchval(TODAY)) + timedelta(days=29)
    token = await add_client(
        owner, "portal", "x", "G99", ("receive", "read"), expires_at=end_of(soon, datetime.now(UTC))
    )
    wanted: list[tuple[int, str, str, Any]] = [
        (200, "GET", ABOUT, None),
        (201, "POST", DOSSIERS, submission()),
        (422, "POST", DOSSIERS, submission(service="nowhere")),
        (403, "POST", f"{DOSSIERS}/G99.01.01-200101-0001/transitions", {"to": "processing"}),
        (404, "GET", f"{DOSSIERS}/G99.01.01-200101-0001", None),
    ]
    for expected, method, path, content in wanted:
        status, _, headers = await ask(house, token, path, method, content)
        assert (status, headers.getall("Hoso24-Token-Expires")) == (expected, [str(soon)]), path
    second = await add_token(owner, "portal")  # the one that was used counts, not the client's last
    assert "Hoso24-Token-Expires" not in (await ask(house, second))[2]
    assert "Hoso24-Token-Expires" in (await ask(house, token))[2]


@pytest.mark.parametrize(
    ("expires_in", "told"), [("30 days -1 s", True), ("30 days 1 min", False), ("1 min", True), (None, False)]
)
async def test_thirty_days_are_counted_by_postgres_to_the_second(
    database: Database, owner: Any, expires_in: str | None, told: bool
) -> None:
    token = await add_client(owner, "portal", "x", "G99", ("read",))
    await owner.execute("UPDATE client_token SET expires_at = now() + $1::text::interval", expires_in)
    last_day = await owner.fetchval("SELECT (expires_at AT TIME ZONE interval '7 hours')::date FROM client_token")
    postgres = Postgres("postgres", lambda: database.writer_url, size=1, deadline=10)
    client = await Tokens(postgres).authenticate(f"Bearer {token}", None)
    await postgres.close()
    assert client.token_ends == (last_day if told else None)


async def test_clock_of_the_process_may_jump_by_years(
    database: Database, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither is an expired token taken after a jump back, nor a good one refused or told to end after one ahead."""
    token = await add_client(owner, "portal", "x", "G99", ("read",))
    await owner.execute("UPDATE client_token SET expires_at = now() + interval '90 days'")
    clock, postgres = Clock(), Postgres("postgres", lambda: database.writer_url, size=1, deadline=10)
    tokens = Tokens(postgres, clock)
    for years in (3, -3):
        monkeypatch.setattr(time, "time", lambda years=years: datetime.now(UTC).timestamp() + years * 365 * 86_400)
        assert (await tokens.authenticate(f"Bearer {token}", None)).token_ends is None
        clock.pass_by(VERIFIED_FOR)
    await owner.execute(EXPIRE, 1)
    with pytest.raises(Unauthenticated):
        await tokens.authenticate(f"Bearer {token}", None)
    await postgres.close()


async def test_client_both_of_whose_tokens_have_expired_gets_in_with_neither_until_it_is_given_another(
    house: House, owner: Any
) -> None:
    tokens = [await add_client(owner, "portal", "x", "G99", ("read",)), await add_token(owner, "portal")]
    for n in (1, 2):
        await owner.execute(EXPIRE, n)
    for token in tokens:
        status, problem, headers = await ask(house, token)
        assert (status, problem["code"]) == (401, "unauthenticated")
        assert not {"Hoso24-Token-Expires", "RateLimit"} & set(headers)
    third = await add_token(owner, "portal")  # the expired ones need not be revoked first
    status, answer, _ = await ask(house, third)
    assert (status, [each["n"] for each in answer["tokens"]]) == (200, [1, 2, 3])


async def test_series_of_requests_ends_within_five_seconds_of_the_revocation(database: Database, owner: Any) -> None:
    """Each request of the series is done as a whole or refused as a whole; another token of the client goes on."""
    first, second = await add_client(owner, "portal", "x", "G99", ("read",)), await add_token(owner, "portal")
    clock, postgres = Clock(), Postgres("postgres", lambda: database.writer_url, size=1, deadline=10)
    tokens = Tokens(postgres, clock)
    series: list[bool] = []
    for step in range(20):
        if step == 5:
            await revoke(owner, "portal", 1)
        try:
            await tokens.authenticate(f"Bearer {first}", None)
            series.append(True)
        except Unauthenticated:
            series.append(False)
        assert (await tokens.authenticate(f"Bearer {second}", None)).id == "portal"
        clock.pass_by(1)
    await postgres.close()
    admitted = series.count(True)
    assert series == [True] * admitted + [False] * (20 - admitted)
    assert 5 <= admitted <= 5 + VERIFIED_FOR
