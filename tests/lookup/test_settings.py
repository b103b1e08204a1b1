"""A value that a lookup or a migration could not use is refused at start, and no secret is shown."""

import pytest

from lookup.settings import LookupSettings, MigrateSettings
from ops.settings import SettingsError, read

POSTGRES = "postgresql://hoso24_reader:hush@db.example/hoso24"
LOOKUP = {
    "HOSO24_PG_READER_URL": POSTGRES,
    "HOSO24_REDIS_URL": "redis://:hush@redis.example:6379/0",
    "HOSO24_LOOKUP_KEY_SECRETS": f"3:{'5a' * 32}",
}
NUMBERS = [
    ("HOSO24_PG_READER_QUERIES", "2", "100", "1", "101"),
    ("HOSO24_MEMORY_BYTES", "0", str(2**36), "-1", str(2**36 + 1)),
    ("HOSO24_ACCESS_LOG_SHARE", "0", "1", "-0.1", "1.1"),
]


def faults(settings: type, environ: dict[str, str]) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(settings, environ)
    return caught.value.faults


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOSO24_PG_READER_URL", "mysql://hush@db.example/hoso24"),
        ("HOSO24_REDIS_URL", "http://:hush@redis.example"),
        ("HOSO24_LOOKUP_KEY_SECRETS", "hush"),
        ("HOSO24_LOOKUP_KEY_SECRETS", f"32:{'5a' * 32}"),
        ("HOSO24_LOOKUP_KEY_SECRETS", f"3:{'5a' * 15}"),
        ("HOSO24_PARTNERS", "10.0.0.0/8,elsewhere"),
        ("HOSO24_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("HOSO24_ANONYMOUS_SHOWS", "agency,name"),
        *((name, value) for name, _, _, *beyond in NUMBERS for value in beyond),
    ],
)
def test_value_that_cannot_be_used_is_the_one_fault(name: str, value: str) -> None:
    (fault,) = faults(LookupSettings, LOOKUP | {name: value})
    assert fault.startswith(f"{name}: ")
    assert "hush" not in fault
    assert "5a" not in fault


def test_what_is_wrong_with_the_secrets_of_the_lookup_keys_is_said() -> None:
    (fault,) = faults(LookupSettings, LOOKUP | {"HOSO24_LOOKUP_KEY_SECRETS": "hush"})
    assert fault == (
        "HOSO24_LOOKUP_KEY_SECRETS: expected id:hex,id:hex with ids from 0 to 31 and at least 16 bytes each"
    )


def test_unknown_field_of_the_anonymous_view_is_named() -> None:
    (fault,) = faults(LookupSettings, LOOKUP | {"HOSO24_ANONYMOUS_SHOWS": "agency,name,address"})
    assert fault == "HOSO24_ANONYMOUS_SHOWS: unknown address, name"


@pytest.mark.parametrize(("name", "least", "most"), [numbers[:3] for numbers in NUMBERS])
def test_bounds_themselves_are_taken(name: str, least: str, most: str) -> None:
    for value in (least, most):
        read(LookupSettings, LOOKUP | {name: value})


@pytest.mark.parametrize("name", ["OWNER", "ADMIN", "READER", "WRITER", "RELAY"])
def test_migration_refuses_each_url_it_cannot_use(name: str) -> None:
    environ = {"HOSO24_PG_OWNER_URL": POSTGRES} | {f"HOSO24_PG_{name}_URL": "postgresql://u:hush/more@db.example/x"}
    (fault,) = faults(MigrateSettings, environ)
    assert fault.startswith(f"HOSO24_PG_{name}_URL: ")
    assert "hush" not in fault
