"""Process memory: bounded in bytes whatever is kept, and the least recently used goes first."""

from hypothesis import given
from hypothesis import strategies as st

from lookup.reading.memory import OVERHEAD, Copy, Memory, Rendered


def copy(version: int = 1, size: int = 100) -> Copy:
    return Copy(version, 0, b"x" * size, generation=1, trusted=1)


def test_kept_copy_is_there() -> None:
    memory = Memory(10_000)
    one = copy()
    memory.keep("a", one)
    assert memory.get("a") is memory.look("a") is one
    assert memory.get("b") is None


def test_least_recently_used_makes_room_and_is_told() -> None:
    memory = Memory(3 * (OVERHEAD + 100), finished=0)
    dropped: list[str] = []
    memory.dropped = lambda code, _: dropped.append(code)
    for code in "abc":
        memory.keep(code, copy())
    memory.get("a")
    memory.look("b")  # looking is not using
    memory.keep("d", copy())
    assert dropped == ["b"]
    assert memory.get("a") is not None


def test_copy_in_the_place_of_another_is_no_eviction() -> None:
    memory = Memory(2 * (OVERHEAD + 100), finished=0)
    dropped: list[str] = []
    memory.dropped = lambda code, _: dropped.append(code)
    memory.keep("a", copy())
    memory.keep("b", copy())
    memory.keep("a", copy(2))
    assert dropped == []
    assert len(memory) == 2


def answer(size: int = 500) -> Rendered:
    return Rendered("json", b'"1.1-json-3"', b"%d" % size, b"y" * size)


def test_finished_answer_is_there_and_counts() -> None:
    memory = Memory(100_000)
    memory.keep("a", copy())
    before = memory.used
    one = answer()
    memory.finish("a", one)
    assert memory.finished("a") is one
    assert memory.used == before + one.size > before + 500


def test_no_answer_of_a_copy_that_is_not_there() -> None:
    memory = Memory(100_000)
    memory.finish("a", answer())
    assert memory.finished("a") is None
    assert memory.used == 0


def test_finished_answer_goes_with_its_copy() -> None:
    memory = Memory(3 * (OVERHEAD + 100) + 100_000, finished=100_000)
    for code in "abc":
        memory.keep(code, copy())
        memory.finish(code, answer())
    memory.keep("a", copy(2))
    memory.drop("b")
    memory.keep("d", copy())
    memory.keep("e", copy())  # and c makes room
    assert memory.get("c") is None
    assert [memory.finished(code) for code in "abc"] == [None, None, None]
    assert memory.used == 3 * (OVERHEAD + 100)


def test_finished_answers_make_room_for_each_other_and_copies_stay() -> None:
    memory = Memory(100_000, finished=2 * answer().size)
    for code in "abc":
        memory.keep(code, copy())
    memory.finish("a", answer())
    memory.finish("b", answer())
    memory.finished("a")
    memory.finish("c", answer())
    assert [memory.finished(code) is not None for code in "abc"] == [True, False, True]
    assert len(memory) == 3


def test_answer_larger_than_all_there_is_for_answers_is_not_kept() -> None:
    memory = Memory(10_000, finished=500)
    memory.keep("a", copy())
    memory.finish("a", answer(400))
    assert memory.finished("a") is None
    assert memory.get("a") is not None


def test_copy_larger_than_all_of_it_is_not_kept_and_takes_the_older_one_with_it() -> None:
    memory = Memory(1000)
    memory.keep("a", copy())
    memory.keep("a", copy(2, size=2000))
    assert memory.get("a") is None


def test_no_bytes_keep_nothing() -> None:
    memory = Memory(0)
    memory.keep("a", copy())
    assert memory.get("a") is None
    assert (len(memory), memory.used) == (0, 0)


def test_forgetting_one_and_all() -> None:
    memory = Memory(10_000)
    memory.keep("a", copy())
    memory.keep("b", copy())
    memory.drop("a")
    memory.drop("absent")
    assert memory.get("a") is None
    memory.clear()
    assert (len(memory), memory.used) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 900), st.booleans()), max_size=60))
def test_never_more_bytes_than_allowed(moves: list[tuple[str, int, bool]]) -> None:
    memory = Memory(3000, finished=1000)
    for code, size, finishes in moves:
        if finishes:
            memory.finish(code, answer(size))
        else:
            memory.keep(code, copy(size=size))
        assert memory.used <= 3000
    kept = [each for code in "abcdefgh" for each in (memory.look(code), memory.finished(code)) if each is not None]
    assert memory.used == sum(each.size for each in kept)
    for code in "abcdefgh":
        assert memory.finished(code) is None or memory.look(code) is not None


def test_answer_too_large_to_be_kept_takes_the_older_one_with_it() -> None:
    memory = Memory(10_000, finished=answer(300).size)
    memory.keep("a", copy())
    memory.finish("a", answer(300))
    assert memory.finished("a") is not None
    memory.finish("a", answer(301))
    assert memory.finished("a") is None
