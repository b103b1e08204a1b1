"""An import of codes that an intake numbers at the same moment: no reception meets one, and no line is passed over."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from intake.bulk.loader import Import
from intake.rules.apply import code_day
from lookup.lookup_key import KeyRing
from tests.books import SEALS
from tests.conftest import KEY_SECRETS, Database
from tests.house import House, open_house
from tests.intake.test_dialects import national
from tests.intake.test_loader import against_the_log, rejects

KEYS = KeyRing.from_text(KEY_SECRETS)
BROUGHT, CLIENTS = 800, 5


@pytest.mark.parametrize(("scheme", "agency"), [("B", "G99.01.01"), ("D", "99901")])
async def test_receptions_beside_an_import_of_the_same_numbers(
    database: Database, redis_url: str, owner: Any, tmp_path: Path, scheme: str, agency: str
) -> None:
    today = code_day(datetime.now(UTC))
    form = f"{agency}-{today:%y%m%d}-{{:04d}}" if scheme == "B" else f"{{:05d}}/{today:%Y}/{agency}"
    brought = [form.format(number) for number in range(1, BROUGHT + 1)]
    path = tmp_path / "brought.ndjson"
    path.write_text("".join(f"{json.dumps(national(MaHoSo=code))}\n" for code in brought))
    received: list[str] = []
    connection = await asyncpg.connect(database.writer_url)

    async def client(house: House, importing: "asyncio.Task[Any]") -> None:
        while not importing.done():
            received.append((await house.receive(agency=agency))["code"])

    try:
        async with open_house(database, redis_url, intake={"code_scheme": scheme}) as house:
            received.append((await house.receive(agency=agency))["code"])
            importing = asyncio.create_task(Import(connection, path, KEYS, SEALS).run())
            await asyncio.gather(*(client(house, importing) for _ in range(CLIENTS)))
            tally = await importing
            last = (await house.receive(agency=agency))["code"]
    finally:
        await connection.close()
    met = [code for code in brought if code in received]  # numbered by the intake before the import came to them
    assert met
    assert rejects(path) == {brought.index(code) + 1: "differs_from_stored" for code in met}
    assert (tally.taken, tally.already_here, tally.appended) == (BROUGHT - len(met), 0, 0)
    assert last == form.format(max(BROUGHT, len(set(received) - set(brought)) + BROUGHT) + 1)
    codes = [code for (code,) in await owner.fetch("SELECT code FROM dossier")]
    assert len(codes) == len(set(codes))
    assert set(codes) == {*brought, *received, last}, "a dossier that nobody was told of"
    assert len(received) == len(set(received))
    assert await against_the_log(owner) == []
