"""What `make mutants` plants, and that its two tables are true of the tree."""

import pytest

from tests.mutants import __main__ as mutants
from tests.mutants.faults import faults_of, module_key

PATH = "lookup/reading/limits.py"


def planted(source: str) -> set[str]:
    """The texts that come of planting each fault."""
    return {fault.applied(source.encode()).decode() for fault in faults_of(PATH, source.encode())}


@pytest.mark.parametrize(
    ("source", "faulty"),
    [
        ("a < b", {"a <= b", "a >= b"}),
        ("a is not b", {"a is b"}),
        ("a and b or c", {"a or b or c", "a and b and c"}),
        ("a + b * -c", {"a - b * -c", "a + b // -c", "a + b * (c)"}),
        ("a << 1", {"a >> 1", "a << 2", "a << (0)"}),
        ("a = 0.5", {"a = 1.0", "a = 0.25"}),
        ("a = 0.0", {"a = 1.0"}),
        ("a = True", {"a = False"}),
        ("a = 'key'", {"a = 'keykey'"}),
        ("a = 'A sentence.'", set()),
        ("a = f'{b + 1}'", set()),
        ("a += b", {"a -= b", "pass"}),
        ("a.b = c", {"pass"}),
        ("min(a, b)", {"max(a, b)", "pass"}),
        ("_log.warning('x', 1)", set()),
        ("if a:\n    b()", {"if (not (a)):\n    b()", "if a:\n    pass"}),
        ("if not a:\n    b()", {"if (a):\n    b()", "if not a:\n    pass"}),
        ("for a in b:\n    break", {"for a in b:\n    continue"}),
        ("def a(b: int = 1):\n    return b", {f"def a(b: int = {n}):\n    return b" for n in ("2", "(0)")} | {
            "def a(b: int = 1):\n    return None"
        }),
        ("raise a", {"pass"}),
        ("[a for a in b if c(a)]", {"[a for a in b if (not (c(a)))]"}),
        ("a: int | None", set()),
        ("def a(b):\n    c: D[1] = b", set()),
        ("class A(Protocol):\n    b: int = 1", set()),
    ],
)  # fmt: skip
def test_the_faults_of_one_line(source: str, faulty: set[str]) -> None:
    assert planted(source) == faulty


def test_a_fault_knows_the_lines_that_reach_it_or_the_name_it_gives() -> None:
    source = b"LIMIT = 5\n\n\ndef late(age: int) -> bool:\n    return (\n        age\n        > 7\n    )\n"
    faults = {fault.mutation: fault for fault in faults_of(PATH, source)}
    assert (faults["5 \u2192 6"].name, faults["5 \u2192 6"].lines) == ("LIMIT", frozenset())
    assert (faults["7 \u2192 8"].function, faults["7 \u2192 8"].lines) == ("late", frozenset({5, 7}))


def test_a_sample_keeps_its_faults_when_other_code_changes_or_the_module_moves() -> None:
    before = faults_of(PATH, b"def a(b):\n    return b + 1\n")
    after = faults_of("lookup/limits.py", b"import c\n\n\ndef a(b):\n    return b + 1\n\n\nD = 2\n")
    ranks = {fault.key: fault.rank(1) for fault in after}
    assert all(ranks[fault.key] == fault.rank(1) != fault.rank(2) for fault in before)


def test_strings_are_rare_in_a_sample() -> None:
    source = "\n".join(f"a{n} = 'x{n}'\nb{n}.c = d" for n in range(500)).encode()
    first = sorted(faults_of(PATH, source), key=lambda fault: fault.rank(1))[:200]
    assert sum("'" in fault.mutation for fault in first) < 80


def test_every_module_of_the_core_has_tests() -> None:
    assert {"lookup", "intake"} == {path.partition("/")[0] for path in mutants.core()}
    assert all(mutants.core().values())


def test_what_is_called_equivalent_is_a_fault_of_the_tree_and_has_a_reason() -> None:
    equivalents = mutants.equivalents()
    named = {module for module, *_ in equivalents}
    paths = [path for path in mutants.core() if module_key(path) in named]
    known = {fault.key for path in paths for fault in faults_of(path, (mutants.ROOT / path).read_bytes())}
    assert [key for key in equivalents if key not in known] == []
    assert all(reason.endswith(".") for reason in equivalents.values())


def test_a_pattern_that_names_no_file_is_told() -> None:
    with pytest.raises(ValueError, match=r"lookup/nowhere\.py names no file"):
        mutants.expand(["lookup/{app,nowhere}.py"])
