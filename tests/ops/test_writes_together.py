"""Answers leave together at the end of a turn, in order, before anything scheduled later, and before who hangs up."""

import asyncio

import pytest

from ops.http import writes_together
from ops.http.writes_together import WritesTogether


class Line(asyncio.Transport):
    """A connection that notes what was written to it, all in one list."""

    def __init__(self, written: list[bytes]) -> None:
        self._written = written
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closing
        self._written.append(bytes(data))


async def turn() -> None:
    await asyncio.sleep(0)


async def test_answers_of_one_turn_leave_at_its_end_in_order() -> None:
    written: list[bytes] = []
    ready, one, other = WritesTogether(), Line(written), Line(written)
    ready.add(one, b"1")
    ready.add(other, b"2")
    ready.add(one, b"3")
    assert written == []
    await turn()
    assert written == [b"1", b"2", b"3"]
    ready.add(one, b"4")
    await turn()
    assert written == [b"1", b"2", b"3", b"4"]


async def test_answer_leaves_before_what_was_scheduled_after_it() -> None:
    written: list[bytes] = []
    ready, line, loop = WritesTogether(), Line(written), asyncio.get_running_loop()
    for n in range(writes_together.AT_ONCE + 1):  # the first of them leave before the turn's end, and the last with it
        ready.add(line, b"%d" % n)
    loop.call_soon(line.write, b"later")
    await turn()
    await turn()
    assert written == [*(b"%d" % n for n in range(writes_together.AT_ONCE + 1)), b"later"]


async def test_first_do_not_wait_for_the_last_of_thousands() -> None:
    written: list[bytes] = []
    ready, line = WritesTogether(), Line(written)
    for _ in range(writes_together.AT_ONCE - 1):
        ready.add(line, b"x")
    assert written == []
    ready.add(line, b"x")
    assert len(written) == writes_together.AT_ONCE


async def test_who_has_hung_up_gets_nothing_and_the_others_theirs() -> None:
    written: list[bytes] = []
    ready, gone, there = WritesTogether(), Line(written), Line(written)
    ready.add(gone, b"lost")
    ready.add(there, b"mine")
    gone.closing = True
    await turn()
    assert written == [b"mine"]


async def test_all_that_is_ready_leaves_when_asked_for_and_once() -> None:
    written: list[bytes] = []
    ready, line = WritesTogether(), Line(written)
    ready.add(line, b"1")
    ready.leave()
    assert written == [b"1"]
    await turn()
    assert written == [b"1"]


@pytest.mark.parametrize("count", [0, 1, 3 * writes_together.AT_ONCE + 7])
async def test_every_answer_leaves_however_many_there_are(count: int) -> None:
    written: list[bytes] = []
    ready, line = WritesTogether(), Line(written)
    for n in range(count):
        ready.add(line, b"%d" % n)
    await turn()
    assert written == [b"%d" % n for n in range(count)]
