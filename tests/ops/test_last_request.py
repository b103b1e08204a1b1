"""A client that closes its sending side after its requests is answered, both ways, and then disconnected."""

import asyncio
import functools
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.http.bodies import read_body
from ops.http.connection import Protocol
from ops.http.early_answers import EarlyAnswers
from ops.http.middleware import middlewares
from ops.http.server import Running, Server, start
from ops.http.writes_together import WritesTogether
from tests.house import until
from tests.ops.test_early_answers import Client, Desk, connected, expected, request, requests

KINDS = ("now", "later", "normal")
WHOLE = b"POST /normal/0 HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"


class Tardy(Desk):
    """A desk whose normal answers wait for the gate too."""

    async def handle(self, request: web.Request) -> web.Response:
        self.normal += 1
        body = await read_body(request)
        await self.gate.wait()
        return web.Response(text=f"{request.match_info['kind']} {request.match_info['name']}{body.decode()}")


@pytest.fixture(params=["early", "aiohttp"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest, way: str) -> Callable[[Any], None]:
    """Runs a test of a desk and its server on each loop, both ways."""

    def on_loop(work: Callable[[Desk, Server], Any]) -> None:
        async def serving() -> None:
            desk = Tardy()
            early = functools.partial(EarlyAnswers, offer=desk.offer, writes=WritesTogether())
            app = web.Application(middlewares=middlewares("last"))
            app.add_routes([web.route("*", "/{kind}/{name}", desk.handle)])
            served = await start(Running(app=app, protocol=early if way == "early" else Protocol), service="last")
            try:
                await work(desk, served)
            finally:
                desk.gate.set()
                await served.stop()

        with asyncio.Runner(loop_factory=request.param) as runner:
            runner.run(serving())

    return on_loop


async def ends_with(client: Client, kinds: Any) -> None:
    assert await client.answers(len(kinds)) == expected(kinds)
    assert await client.closed()


def test_end_in_the_same_segment_or_behind_it_in_every_order(run: Callable[[Any], None]) -> None:
    async def ends(_desk: Desk, served: Server) -> None:
        orders = itertools.chain.from_iterable(itertools.product(KINDS, repeat=n) for n in (1, 2, 3))
        for kinds, turns in itertools.product(orders, (0, 1, 2, 5)):
            async with connected(served) as client:
                client.writer.write(requests(kinds))
                for _ in range(turns):
                    await asyncio.sleep(0)
                client.writer.write_eof()
                await ends_with(client, kinds)

    run(ends)


def test_end_while_answers_are_awaited(run: Callable[[Any], None]) -> None:
    async def ends(desk: Desk, served: Server) -> None:
        for kinds in (("later",), ("normal",), ("later", "normal", "now"), ("normal", "later", "later")):
            async with connected(served) as client:
                await client.say(request("now", "first"))
                assert await client.answers(1) == ["now first"]
                desk.gate.clear()
                before = desk.normal
                await client.say(requests(kinds))
                await until(functools.partial(has_begun, desk, before))
                client.writer.write_eof()
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.reader.read(1)
                desk.gate.set()
                await ends_with(client, kinds)

    async def has_begun(desk: Desk, before: int) -> bool:
        return bool(desk.promises) or desk.normal > before

    run(ends)


def test_more_than_a_queue_and_then_the_end(run: Callable[[Any], None]) -> None:
    @settings(max_examples=30)
    @given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=90), cut=st.floats(0, 1))
    def in_one_go(kinds: list[str], cut: float) -> None:
        async def ends(_desk: Desk, served: Server) -> None:
            whole = requests(kinds)
            place = int(cut * len(whole))
            async with connected(served) as client:
                await client.say(whole[:place], whole[place:])
                client.writer.write_eof()
                await ends_with(client, kinds)

        run(ends)

    in_one_go()


def test_whole_body_is_answered_and_half_a_request_is_not(run: Callable[[Any], None]) -> None:
    async def ends(desk: Desk, served: Server) -> None:
        for before, piece in itertools.product(
            (b"", request("now"), request("later"), request("normal")),
            (WHOLE, WHOLE[:-2], WHOLE[:20], b""),
        ):
            async with connected(served) as client:
                client.writer.write(before + piece)
                client.writer.write_eof()
                if before:
                    assert await client.answers(1) == [f"{before.split(b'/')[1].decode()} 0"]
                if piece == WHOLE:
                    assert await client.answers(1) == ["normal 0body"]
                assert await client.closed()

    run(ends)


def test_refused_request_is_answered_too(run: Callable[[Any], None]) -> None:
    async def ends(_desk: Desk, served: Server) -> None:
        async with connected(served) as client:
            client.writer.write(b"nonsense\r\n\r\n")
            client.writer.write_eof()
            assert (await client.answer())[0] == 400
            assert await client.closed()

    run(ends)
