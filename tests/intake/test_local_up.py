"""What `hoso24 up` makes once and keeps, and which of it each process is given."""

import json
from pathlib import Path

from intake.books.seal import SealKeys
from intake.local import up
from lookup.schema.grants import ROLES


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
    whole = up._environ(servers(own), own, ports)
    secret = {name for name in whole if name.startswith("HOSO24_PG_") or name in up.ONLY_FOR}
    given = {name: secret & up._of_process(name, whole, servers(own)).keys() for name in up.ROLE_OF}
    assert len(secret) == len(up.ROLES) + 2
    assert given == {
        "lookup": {"HOSO24_PG_READER_URL", "HOSO24_LOOKUP_KEY_SECRETS"},
        "intake": {"HOSO24_PG_WRITER_URL", "HOSO24_LOOKUP_KEY_SECRETS", "HOSO24_SEAL_KEYS"},
        "relay": {"HOSO24_PG_RELAY_URL"},
    }
