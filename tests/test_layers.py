"""The rooms of the house: which folder may import which, and that every file stands in a known room.

Three floors, `intake → lookup → ops`, never back. One wall matters most: intake may use what stands in the root of
lookup, its catalogue and its schema, and nothing of `reading`, `web` or `upkeep`.
"""

import ast
import functools
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("ops", "lookup", "intake")

SHARED_OF_LOOKUP = {"lookup", "lookup.catalogue", "lookup.schema"}
"""What intake may use of lookup."""
SERVING = {"ops", "ops.http", "ops.stores", "ops.observe"}
"""What a service in production may use of ops."""

MAY_IMPORT: dict[str, set[str]] = {
    "ops": {"ops.http", "ops.observe"},
    "ops.http": {"ops", "ops.observe"},
    "ops.stores": {"ops", "ops.observe"},
    "ops.observe": {"ops"},
    "ops.doctor": {"ops", "ops.http", "ops.stores", "ops.observe"},
    "ops.monitoring": {"ops"},
    "ops.local": {"ops"},
    "lookup": {"lookup.catalogue", "lookup.schema", *SERVING},
    "lookup.catalogue": {"lookup", *SERVING},
    "lookup.schema": {"lookup", *SERVING},
    "lookup.reading": {*SHARED_OF_LOOKUP, *SERVING},
    "lookup.web": {*SHARED_OF_LOOKUP, "lookup.reading", "lookup.upkeep", *SERVING},
    "lookup.upkeep": {*SHARED_OF_LOOKUP, "lookup.reading", *SERVING, "ops.doctor"},
    "intake": {"intake.rules", "intake.books", *SHARED_OF_LOOKUP, *SERVING, "ops.doctor"},
    "intake.rules": {*SHARED_OF_LOOKUP, "ops"},
    "intake.books": {"intake", "intake.rules", *SHARED_OF_LOOKUP, *SERVING},
    "intake.dialects": {"intake.rules", *SHARED_OF_LOOKUP, "ops"},
    "intake.bulk": {"intake", "intake.rules", "intake.dialects", "intake.books", *SHARED_OF_LOOKUP, *SERVING},
    "intake.outgoing": set(),
    "intake.partners": {
        *("intake", "intake.rules", "intake.dialects", "intake.books", "intake.outgoing"),
        *SHARED_OF_LOOKUP,
        *SERVING,
    },
    "intake.notices": {"intake", "intake.rules", "intake.books", "intake.outgoing", *SHARED_OF_LOOKUP, *SERVING},
    "intake.figures": {"intake", "intake.rules", "intake.books", *SHARED_OF_LOOKUP, *SERVING},
    "intake.papers": {"intake", "intake.rules", "intake.books", *SHARED_OF_LOOKUP, *SERVING, "ops.doctor"},
    "intake.retention": {"intake", "intake.rules", "intake.books", *SHARED_OF_LOOKUP, *SERVING},
    "intake.desk": {"intake", "intake.rules", "intake.books", "intake.papers", *SHARED_OF_LOOKUP, *SERVING},
    "intake.local": {
        *("intake", "intake.rules", "intake.books", "intake.bulk", "intake.papers", "intake.desk"),
        *(*SHARED_OF_LOOKUP, *SERVING, "ops.local"),
    },
}
"""Room → the rooms it may import besides itself. A room that is not here does not exist."""

WIRING: dict[str, set[str]] = {
    "lookup.app": {"lookup.reading", "lookup.web", "lookup.upkeep"},
    "intake.app": {"intake.outgoing", "intake.partners", "intake.papers"},
    "intake.settings": {"intake.outgoing", "intake.notices"},  # how secrets and addresses are written
    "intake.rules.apply": {"intake"},  # for the closed set of refusals
    "intake.rules.one_stop": {"intake"},
    "intake.rules.policies": {"intake"},
    "intake.rules.reconcile": {"intake"},
    "intake.rules.scope": {"intake"},
    "intake.rules.tasks": {"intake"},
}
"""Modules that join rooms, and what they may import beyond their own room's list."""

IN_THE_ROOT: dict[str, set[str]] = {
    "ops": {"settings", "process_settings", "errors"},
    "lookup": {
        *("app", "settings", "metrics", "code", "status", "dossier", "lookup_key", "clock", "maintenance"),
        *("codes_in_logs", "cache", "redis_users", "sandbox", "situation", "paper_stamp", "ratings"),
    },
    "intake": {
        *(
            "admission",
            "app",
            "api",
            "answers",
            "budgets",
            "settings",
            "clients",
            "examples",
            "refusals",
            "metrics",
            "maintenance",
            "sign_of_life",
            "doctor",
            "one_stop",
            "operator",
            "overdue",
            "tidy",
            "watch",
        ),
    },
}
"""Floor → the modules that stand in its root. Another one belongs into a room."""

OF_LOADTESTS = {"ops.local"}
"""What the load tests may import of ours: servers to run against, and nothing of what they judge."""


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room a module stands in: its floor's name for the root, else floor and first folder."""
    floor, _, rest = module.partition(".")
    room = f"{floor}.{rest.partition('.')[0]}"
    return room if rest and (ROOT / room.replace(".", "/")).is_dir() else floor


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@functools.cache
def import_statements(text: str) -> list[tuple[int, int, str, list[str]]]:
    """Line, dots, module and names of every import of a text; without dots or module, `import a` has names only."""
    return [
        (node.lineno, getattr(node, "level", 0), getattr(node, "module", "") or "", [each.name for each in node.names])
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Every module a file imports and on which line, functions included; `from a import b` gives a.b where that is one.

    A relative import counts with the package's name before it.
    """
    package = path.parent.relative_to(ROOT).parts
    for line, level, module, names in import_statements(path.read_text("utf-8")):
        above = package[: len(package) - level + 1] if level else ()
        base = ".".join([*above, *([module] if module else [])])
        for name in names:
            whole = f"{base}.{name}" if base else name
            below = ROOT / whole.replace(".", "/")
            yield line, whole if not base or below.is_dir() or below.with_suffix(".py").is_file() else base


def broken_walls() -> list[str]:
    """A sentence for every import that the table does not allow."""
    found = []
    for path in (path for floor in FLOORS for path in sources(floor)):
        module = module_of(path)
        room = room_of(module)
        may = MAY_IMPORT.get(room, set()) | WIRING.get(module, set()) | {room}
        for line, name in imported(path):
            if name.partition(".")[0] in {*FLOORS, "loadtests", "tests", "hoso24"} and room_of(name) not in may:
                found.append(
                    f"{path.relative_to(ROOT)}:{line} imports {name}, and {room} may import only "
                    f"{', '.join(sorted(may - {room}))}. What both need belongs into a room that both may import."
                )
    return found


def misplaced() -> list[str]:
    """A sentence for every file that stands in no known room."""
    found = []
    for path in (path for floor in FLOORS for path in sources(floor)):
        room = room_of(module_of(path))
        where = path.relative_to(ROOT)
        if room not in MAY_IMPORT:
            found.append(
                f"{where} stands in {room}, which is no room. Put it into the room that names what it is about "
                "(README, Where things are); a new room needs a line in MAY_IMPORT that says what it may import."
            )
        elif room in IN_THE_ROOT and path.stem not in {*IN_THE_ROOT[room], "__init__"}:
            rooms = ", ".join(sorted(name for name in MAY_IMPORT if name.startswith(f"{room}.")))
            found.append(f"{where} stands in the root of {room}. Put it into one of its rooms: {rooms}.")
    return found


def test_no_room_imports_what_it_may_not() -> None:
    assert sum(len(sources(floor)) for floor in FLOORS) > 100
    assert broken_walls() == []


def test_every_file_stands_in_a_known_room() -> None:
    assert misplaced() == []
    stems = {floor: {path.stem for path in (ROOT / floor).glob("*.py")} - {"__init__"} for floor in FLOORS}
    assert stems == IN_THE_ROOT


def test_load_tests_take_servers_from_ops_and_nothing_that_they_judge() -> None:
    used = {name for path in sources("loadtests") for _, name in imported(path)}
    ours = {room_of(name) for name in used if name.partition(".")[0] in {*FLOORS, "tests", "hoso24"}}
    assert ours <= OF_LOADTESTS, (
        f"loadtests imports {sorted(ours - OF_LOADTESTS)}: it may know URLs and the contract only"
    )


def test_tests_of_the_whole_system_speak_http_and_import_nothing_of_ours() -> None:
    used = {name.partition(".")[0] for path in sources("tests/system") for _, name in imported(path)}
    assert not used & {*FLOORS, "loadtests", "tests", "hoso24"}


# -- the rules themselves --------------------------------------------------------------------------------


@pytest.fixture
def small_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A house with the same rooms and one empty module in each."""
    for room in MAY_IMPORT:
        folder = tmp_path / room.replace(".", "/")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").touch()
        (folder / "thing.py").touch()
    (tmp_path / "loadtests").mkdir()
    (tmp_path / "loadtests" / "thing.py").touch()
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    return tmp_path


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_each_forbidden_import_is_found(small_house: Path, room: str) -> None:
    path = small_house / room.replace(".", "/") / "thing.py"
    for other in {*MAY_IMPORT, "loadtests"} - {room}:
        for statement in (f"import {other}.thing", f"from {other} import thing", f"from {other}.thing import a"):
            path.write_text(f"def f():\n    {statement}\n")
            sentences = broken_walls()
            assert (sentences == []) is (other in MAY_IMPORT[room]), statement
            assert all(f"{path.relative_to(small_house)}:2 imports {other}.thing, and" in each for each in sentences)


def test_wall_between_intake_and_the_inner_rooms_of_lookup(small_house: Path) -> None:
    for room in ("lookup.reading", "lookup.web", "lookup.upkeep"):
        assert all(room not in may for name, may in MAY_IMPORT.items() if name.startswith("intake")), room
    assert all("lookup.web" not in may for name, may in MAY_IMPORT.items() if name.startswith("lookup"))
    assert all("intake" not in name for floor in ("ops", "lookup") for name in MAY_IMPORT[floor])
    (small_house / "intake" / "books" / "thing.py").write_text("from lookup.reading import thing\n")
    (sentence,) = broken_walls()
    assert sentence.startswith(
        "intake/books/thing.py:1 imports lookup.reading.thing, and intake.books may import only "
    )


def test_relative_imports_count(small_house: Path) -> None:
    (small_house / "intake" / "rules" / "thing.py").write_text("from ..books import thing\n")
    (sentence,) = broken_walls()
    assert sentence.startswith("intake/rules/thing.py:1 imports intake.books.thing")


def test_unknown_room_and_unknown_module_of_a_root_are_told_where_to_go(small_house: Path) -> None:
    for each in small_house.rglob("thing.py"):
        each.unlink()
    (small_house / "ops" / "misc").mkdir()
    (small_house / "ops" / "misc" / "thing.py").touch()
    (small_house / "lookup" / "thing.py").touch()
    room, root = misplaced()
    assert room.startswith("ops/misc/thing.py stands in ops.misc, which is no room. Put it into the room that names")
    assert root == (
        "lookup/thing.py stands in the root of lookup. Put it into one of its rooms: "
        "lookup.catalogue, lookup.reading, lookup.schema, lookup.upkeep, lookup.web."
    )


# -- packages --------------------------------------------------------------------------------------------


def test_every_folder_is_a_package() -> None:
    """The distribution finds its packages: a folder without `__init__.py` would be missing from the image."""
    folders = {path.parent for package in (*FLOORS, "tests", "loadtests") for path in sources(package)}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_what_runs_on_one_machine_only_is_not_in_the_distribution() -> None:
    find = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]["packages"]["find"]
    assert find == {"include": ["lookup*", "intake*", "ops*"], "exclude": ["*.local", "*.local.*", "ops.monitoring"]}
    assert [room for room, may in MAY_IMPORT.items() if may & {"ops.local", "intake.local", "ops.monitoring"}] == [
        "intake.local"
    ]
