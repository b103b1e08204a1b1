"""Process memory: bounded in bytes whatever is kept, and the least recently used goes first."""

from hypothesis import given
from hypothesis import strategies as st

from lookup.memory import OVERHEAD, Copy, Memory, Rendered


def copy(version: int = 1, size: int = 100) -> Copy:
    return Copy(version, 0, b"x" * size, generation=1, trusted=1)


def test_kept_copy_is_there() -> None:
    memory = Memory(10_000)
    one = copy()
    memory.keep("a", one)
    assert memory.get("a") is memory.look("a") is one
    assert memory.get("b") is None


def test_least_recently_used_makes_room_and_is_told() -> None:
    memory = Memory(3 * (OVERHEAD + 100))
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
    memory = Memory(2 * (OVERHEAD + 100))
    dropped: list[str] = []
    memory.dropped = lambda code, _: dropped.append(code)
    memory.keep("a", copy())
    memory.keep("b", copy())
    memory.keep("a", copy(2))
    assert dropped == []
    assert len(memory) == 2


def test_what_was_rendered_counts() -> None:
    memory = Memory(100_000)
    one = copy()
    memory.keep("a", one)
    before = memory.used
    one.rendered = Rendered("json", b'"1.1-json-1"', b"500", b"y" * 500)
    memory.keep("a", one)
    assert memory.used > before + 500


def test_copy_that_has_grown_makes_others_go_and_they_are_told() -> None:
    memory = Memory(2 * (OVERHEAD + 100) + 50)
    dropped: list[str] = []
    memory.dropped = lambda code, _: dropped.append(code)
    one = copy()
    memory.keep("a", one)
    memory.keep("b", copy())
    one.rendered = Rendered("json", b"", b"", b"y" * 100)
    memory.keep("a", one)
    assert dropped == ["b"]


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
    memory.drop("nobody")
    assert memory.get("a") is None
    memory.clear()
    assert (len(memory), memory.used) == (0, 0)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 900), st.booleans()), max_size=60))
def test_never_more_bytes_than_allowed(moves: list[tuple[str, int, bool]]) -> None:
    memory = Memory(3000)
    for code, size, grows in moves:
        kept = memory.look(code)
        if grows and kept is not None:
            kept.rendered = Rendered("json", b"", b"", b"z" * size)
            memory.keep(code, kept)
        else:
            memory.keep(code, copy(size=size))
        assert memory.used <= 3000
    kept_copies = [memory.look(code) for code in "abcdefgh"]
    assert memory.used == sum(kept.size for kept in kept_copies if kept is not None)
