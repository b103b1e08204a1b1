"""Settings are read in one go, complain in one go, and never show a secret."""

import ast
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from msgspec import Meta

from ops.settings import (
    Secret,
    SettingsError,
    describe,
    is_server_url,
    masked,
    optional,
    read,
    setting,
    table,
    unknown,
)


@dataclass(frozen=True)
class Sample:
    database: Secret = setting("HOSO24_DATABASE", doc="Where the data are.", secret=True)
    port: Annotated[int, Meta(ge=1, le=65535)] = setting("HOSO24_PORT", default=8080, doc="The port.")
    ratio: float = setting("HOSO24_RATIO", default=0.5, doc="A part of one.")
    debug: bool = setting("HOSO24_DEBUG", default=False, doc="Talk more.")
    names: tuple[str, ...] = setting("HOSO24_NAMES", default=(), doc="Some names.")
    place: Path | None = setting("HOSO24_PLACE", default=None, doc="A directory.")
    token: Secret | None = setting("HOSO24_TOKEN", default=None, doc="A token.", secret=True)
    pin: Annotated[int, Meta(ge=1000)] = setting("HOSO24_PIN", default=1000, doc="A number.", secret=True)


ROOT = Path(__file__).resolve().parent.parent.parent
URL = "postgresql://reader:o'pen@sesame@db.example/hoso24"


def test_texts_become_the_types_of_their_fields() -> None:
    sample = read(
        Sample,
        {
            "HOSO24_DATABASE": URL,
            "HOSO24_PORT": " 9000 ",
            "HOSO24_RATIO": "0.25",
            "HOSO24_DEBUG": "true",
            "HOSO24_NAMES": "one, two,,",
            "HOSO24_PLACE": "somewhere/else",
        },
    )
    assert sample.database.reveal() == URL
    assert (sample.port, sample.ratio, sample.debug) == (9000, 0.25, True)
    assert sample.names == ("one", "two")
    assert sample.place == Path("somewhere/else")


def test_absent_and_empty_variables_take_the_default() -> None:
    sample = read(Sample, {"HOSO24_DATABASE": URL, "HOSO24_PORT": "", "HOSO24_TOKEN": " "})
    assert sample.port == 8080
    assert sample.token is None


def test_all_faults_are_reported_together_without_the_secret() -> None:
    with pytest.raises(SettingsError) as caught:
        read(Sample, {"HOSO24_PORT": "70000", "HOSO24_DEBUG": "perhaps", "HOSO24_PIN": "hush"})
    assert caught.value.faults == [
        "HOSO24_DATABASE: is required and not set; expected a secret",
        "HOSO24_PORT: '70000' is not valid; expected a whole number (≥ 1, ≤ 65535)",
        "HOSO24_DEBUG: 'perhaps' is not valid; expected true or false",
        "HOSO24_PIN: the value is not valid; expected a whole number (≥ 1000)",
    ]
    assert str(caught.value).count("\n") == 3


def test_value_and_file_together_are_a_fault(tmp_path: Path) -> None:
    file = tmp_path / "database"
    file.write_text(URL)
    with pytest.raises(SettingsError, match="given twice"):
        read(Sample, {"HOSO24_DATABASE": URL, "HOSO24_DATABASE_FILE": str(file)})


def test_missing_and_empty_files_are_faults(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    environ = {"HOSO24_DATABASE_FILE": str(tmp_path / "empty"), "HOSO24_PORT_FILE": str(tmp_path / "none")}
    with pytest.raises(SettingsError) as caught:
        read(Sample, environ)
    assert "file of HOSO24_DATABASE_FILE is empty" in caught.value.faults[0]
    assert "No such file or directory" in caught.value.faults[1]


def test_every_setting_may_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "database").write_text(f"{URL}\n")
    (tmp_path / "port").write_text("9001\n")
    sample = read(
        Sample,
        {
            "HOSO24_DATABASE_FILE": str(tmp_path / "database"),
            "HOSO24_PORT_FILE": str(tmp_path / "port"),
        },
    )
    assert sample.database.reveal() == URL
    assert sample.port == 9001


def test_rotated_secret_is_revealed_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    sample = read(Sample, {"HOSO24_DATABASE": URL, "HOSO24_TOKEN_FILE": str(file)})
    assert sample.token is not None
    file.write_text("second\n")
    assert sample.token.reveal() == "second"


def test_last_secret_stands_in_while_its_file_is_away_or_empty(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("")
    secret = Secret("first", file)
    assert secret.reveal() == "first"
    file.write_text("second")
    assert secret.reveal() == "second"
    file.unlink()
    assert secret.reveal() == "second"


@dataclass(frozen=True)
class Elsewhere:
    server: Secret = setting("HOSO24_SERVER_URL", doc="Where it is.", secret=True)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:pass@db.example:5432/hoso24?sslmode=verify-full",
        "postgresql://reader:p%2Fa%23s%3Fs@one.example,two.example:5433/hoso24",
        "postgresql://reader:p@ss@db.example/hoso24",
        "postgresql:///hoso24?host=/run/postgresql",
        "redis://:pass@[::1]:6379/0",
        "rediss://cache.example",
    ],
)
def test_url_of_a_server_is_taken(url: str) -> None:
    assert read(Elsewhere, {"HOSO24_SERVER_URL": url}).server.reveal() == url


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://reader:hush/hush@db.example:5432/hoso24",
        "postgresql://reader:1/hush@db.example/hoso24",
        "postgresql://reader:hush#hush@db.example/hoso24",
        "postgresql://reader:hush?hush@db.example/hoso24",
        "redis://:hu[sh@cache.example/0",
        "redis://:hu sh@cache.example/0",
        "redis://:hush@cache.example:hush/0",
        "reader:hush@db.example",
        "hush",
    ],
)
def test_url_a_driver_would_quote_the_password_of_is_refused_without_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(Elsewhere, {"HOSO24_SERVER_URL": url})
    assert "percent-encoded" in str(caught.value)
    assert "hush" not in str(caught.value)


def test_long_nonsense_is_refused_at_once() -> None:
    for url in ("a://" + "a," * 100_000 + "#", "a://" + "[" * 100_000, "a://" + ":" * 100_000 + "@"):
        assert not is_server_url(url + "\0 ")


def test_rotated_url_that_cannot_be_used_leaves_the_secret_as_it_was(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "server"
    file.write_text("redis://:first@cache.example/0")
    server = read(Elsewhere, {"HOSO24_SERVER_URL_FILE": str(file)}).server
    file.write_text("redis://:hush/hush@cache.example/0")
    assert server.reveal() == "redis://:first@cache.example/0"
    assert "invalid value" in caplog.text
    assert "hush" not in caplog.text
    file.write_text("redis://:second@cache.example/0")
    assert server.reveal() == "redis://:second@cache.example/0"


def test_secret_never_prints_itself() -> None:
    secret = Secret("open sesame")
    assert "sesame" not in f"{secret} {secret!r} {[secret]}"


def test_description_shows_effective_values_but_no_password() -> None:
    sample = read(
        Sample,
        {
            "HOSO24_DATABASE": URL,
            "HOSO24_TOKEN": "hush",
            "HOSO24_NAMES": "a,b",
            "HOSO24_PIN": "4321",
        },
    )
    described = describe(sample)
    assert described["HOSO24_DATABASE"] == "postgresql://reader:***@db.example/hoso24"
    assert described["HOSO24_TOKEN"] == "***"
    assert described["HOSO24_PIN"] == "***"
    assert described["HOSO24_NAMES"] == "a,b"
    assert described["HOSO24_PORT"] == "8080"
    assert described["HOSO24_PLACE"] == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hush@cache:6379/0", "redis://:***@cache:6379/0"),
        ("postgresql://u:p/w?@h1:5432,h2:5432/db", "postgresql://u:***@h1:5432,h2:5432/db"),
        ("postgresql://h/db?user=u&password=hush&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("https://status.example/tra-cuu", "https://status.example/tra-cuu"),
    ],
)
def test_passwords_in_urls_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown


def test_unknown_variables_are_suspected_of_being_typing_mistakes() -> None:
    environ = {"HOSO24_PROT": "1", "HOSO24_PORT_FILE": "x", "HOSO24_WEATHER": "2", "HOME": "/"}
    assert unknown(environ, [Sample]) == [
        "HOSO24_PROT is not a setting. Did you mean HOSO24_PORT?",
        "HOSO24_WEATHER is not a setting.",
    ]


def test_table_lists_each_setting_once() -> None:
    rows = table([Sample, Sample])
    assert rows[0] == ("HOSO24_DATABASE", "required", "Where the data are.")
    assert rows[1] == ("HOSO24_PORT", "8080", "The port.")
    assert rows[3] == ("HOSO24_DEBUG", "false", "Talk more.")
    assert len(rows) == 8


def test_class_may_refuse_a_combination() -> None:
    @dataclass(frozen=True)
    class Window:
        low: int = setting("HOSO24_LOW", default=1, doc="Low.")
        high: int = setting("HOSO24_HIGH", default=2, doc="High.")

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError("HOSO24_LOW must not be above HOSO24_HIGH")

    assert read(Window, {}).high == 2
    with pytest.raises(SettingsError, match="must not be above"):
        read(Window, {"HOSO24_LOW": "3"})


def hush(text: str) -> None:
    if text != "hush":
        raise ValueError("expected the word we agreed on")


@dataclass(frozen=True)
class Guarded:
    word: Secret = setting("HOSO24_WORD", doc="A word.", secret=True, check=hush)
    width: int = setting("HOSO24_WIDTH", default=-1, doc="A number.", check=lambda width: range(width)[0])


@dataclass(frozen=True)
class Guest:
    word: Secret | None = optional(Guarded, "word")


def test_check_sees_what_was_read_and_its_complaint_is_a_fault_of_that_variable() -> None:
    assert read(Guarded, {"HOSO24_WORD": "hush"}).width == -1  # a default is not checked
    with pytest.raises(SettingsError) as caught:
        read(Guarded, {"HOSO24_WORD": "loud", "HOSO24_PORT": "1"})
    assert caught.value.faults == ["HOSO24_WORD: expected the word we agreed on"]


def test_optional_setting_is_the_same_setting_and_may_be_missing() -> None:
    assert read(Guest, {}).word is None
    with pytest.raises(SettingsError) as caught:
        read(Guest, {"HOSO24_WORD": "loud"})
    assert caught.value.faults == ["HOSO24_WORD: expected the word we agreed on"]
    assert table([Guarded, Guest]) == [("HOSO24_WORD", "required", "A word."), ("HOSO24_WIDTH", "-1", "A number.")]


def declarations(root: Path) -> dict[str, list[str]]:
    """Variable → every place of the three floors where `setting("NAME", …)` declares it."""
    found: dict[str, list[str]] = {}
    for path in sorted(path for floor in ("ops", "lookup", "intake") for path in (root / floor).rglob("*.py")):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if "setting(" in text else ():
            match node:
                case ast.Call(func=ast.Name(id="setting"), args=[ast.Constant(value=str(name)), *_]):
                    found.setdefault(name, []).append(f"{path.relative_to(root)}:{node.lineno}")
    return found


def declared_twice(declared: dict[str, list[str]]) -> list[str]:
    return [
        f"{name} is declared at {' and '.join(places)}. Declare it once, in the lowest room that knows what it means; "
        "inherit that class, or take the field by ops.settings.optional."
        for name, places in declared.items()
        if len(places) > 1
    ]


def test_every_setting_is_declared_once(tmp_path: Path) -> None:
    declared = declarations(ROOT)
    assert len(declared) > 30
    assert declared_twice(declared) == []
    for name in ("one", "two"):
        (tmp_path / "ops").mkdir(exist_ok=True)
        (tmp_path / "ops" / f"{name}.py").write_text('port: int = setting("HOSO24_PORT", doc="A port.")\n')
    (sentence,) = declared_twice(declarations(tmp_path))
    assert sentence.startswith("HOSO24_PORT is declared at ops/one.py:1 and ops/two.py:1. Declare it once")
