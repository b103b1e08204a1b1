"""What `hoso24 up` makes once and keeps, which of it each process is given, and what `--fresh` sets aside."""

import hashlib
import json
from pathlib import Path

import pytest

import ops.local.servers
from intake.books.seal import SealKeys
from intake.local import up
from lookup.schema.grants import ROLES
from ops.local.accounts import Account
from ops.local.cannot_start import CannotStart


def servers(own: up.Secrets) -> up.ServerUrls:
    postgres = {role: f"postgresql://hoso24_{role}:{own.passwords[role]}@127.0.0.1:1/hoso24" for role in up.ROLES}
    return up.ServerUrls(postgres, dict.fromkeys(own.redis_passwords, "redis://127.0.0.1:2"))


def test_every_role_has_a_password_and_what_was_made_is_kept(tmp_path: Path) -> None:
    assert {f"hoso24_{role}" for role in up.ROLES} == set(ROLES)
    first = up.Secrets.of(tmp_path)
    assert first.passwords.keys() == set(up.ROLES)
    SealKeys.from_text(first.seal_keys)
    assert up.Secrets.of(tmp_path) == first


def test_role_that_is_new_gets_a_password_and_the_others_keep_theirs(tmp_path: Path) -> None:
    first = up.Secrets.of(tmp_path)
    path = tmp_path / "secrets.json"
    before = json.loads(path.read_text("utf-8"))
    del before["passwords"]["notary"], before["seal_keys"]
    path.write_text(json.dumps(before), "utf-8")
    now = up.Secrets.of(tmp_path)
    assert now.passwords.keys() == first.passwords.keys()
    assert {role for role in up.ROLES if now.passwords[role] != first.passwords[role]} == {"notary"}
    assert now.seal_keys != first.seal_keys
    assert now.token == first.token
    assert up.Secrets.of(tmp_path) == now


def test_process_is_given_its_own_url_and_the_secrets_it_works_with(tmp_path: Path) -> None:
    own = up.Secrets.of(tmp_path)
    ports = dict.fromkeys(up.PREFERRED_PORTS, 1)
    whole = up._environ(tmp_path, servers(own), own, ports)
    secret = {name for name in whole if name.startswith("HOSO24_PG_") or name in up.ONLY_FOR}
    given = {name: secret & up._of_process(name, whole, servers(own)).keys() for name in up.ROLE_OF}
    assert len(secret) == len(up.ROLES) + len(up.ONLY_FOR)
    assert given == {
        "lookup": {"HOSO24_PG_READER_URL", "HOSO24_LOOKUP_KEY_SECRETS"},
        "desk": {
            *("HOSO24_PG_DESK_URL", "HOSO24_LOOKUP_KEY_SECRETS", "HOSO24_SEAL_KEYS", "HOSO24_PAPER_KEY_FILE"),
        },
        "intake": {
            *("HOSO24_PG_WRITER_URL", "HOSO24_LOOKUP_KEY_SECRETS", "HOSO24_SEAL_KEYS", "HOSO24_WEBHOOK_SECRET"),
            "HOSO24_PAPER_KEY_FILE",
        },
        "relay": {"HOSO24_PG_RELAY_URL"},
        "notary": {"HOSO24_PG_NOTARY_URL", "HOSO24_SEAL_KEYS", "HOSO24_BOOKS_KEY"},
        "tidy": {"HOSO24_PG_ARCHIVIST_URL"},
        "figures": {"HOSO24_PG_FIGURES_URL"},
        "webhooks": {"HOSO24_PG_WEBHOOKS_URL", "HOSO24_WEBHOOK_SECRET"},
        "notices": {"HOSO24_PG_NOTICES_URL", "HOSO24_NOTICE_SECRET", "HOSO24_SMTP_URL"},
    }


# -- fresh -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where servers keep data that their account could not reach elsewhere."""
    for role in up.ROLES:
        monkeypatch.delenv(f"HOSO24_PG_{role.upper()}_URL", raising=False)
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.setattr(ops.local.servers, "PLACES_OF_ITS_OWN", (place,))
    return place


def files(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_everything_but_the_lock_is_set_aside_and_stays_there(
    tmp_path: Path, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / ".hoso24"
    for name in ("lock", "secrets.json", "postgres/data/PG_VERSION", "redis/data/dump.rdb", "books/state"):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text("x")
    up._set_aside(directory)
    (aside,) = directory.glob("before-*")
    assert files(directory) - {f"{aside.name}/{name}" for name in files(aside)} == {"lock"}
    assert files(aside) == {"secrets.json", "postgres/data/PG_VERSION", "redis/data/dump.rdb", "books/state"}
    assert str(aside) in capsys.readouterr().out
    up._set_aside(directory)  # nothing is left
    assert [*directory.glob("before-*")] == [aside]


def test_data_that_a_server_keeps_elsewhere_are_set_aside_as_well(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Account, "unprivileged", object)
    monkeypatch.setattr(ops.local.servers, "_trusted", lambda each: each)
    directory = tmp_path / ".hoso24"
    directory.mkdir()
    (directory / "secrets.json").write_text("x")
    name = f"hoso24-{hashlib.sha256(str(directory / 'postgres').encode()).hexdigest()[:8]}"
    (place / name / "data").mkdir(parents=True)
    up._set_aside(directory)
    (there,) = place.iterdir()
    assert there.name.startswith(f"{name}-before-")
    assert str(there) in capsys.readouterr().out


def test_server_that_the_environment_names_is_never_begun_anew(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets.json").write_text("x")
    monkeypatch.setenv("HOSO24_PG_OWNER_URL", "postgresql://hoso24_owner@db/hoso24")
    with pytest.raises(CannotStart, match="leave --fresh out"):
        up._set_aside(tmp_path)
    assert files(tmp_path) == {"secrets.json"}
