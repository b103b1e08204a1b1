"""URLs of settings: each form is understood, and whatever is none is refused with a sentence that shows no secret."""

import pytest

from ops.stores.urls import Login, Place, Trust, Urls, check_postgres, check_redis, first, redis_address


@pytest.mark.parametrize(
    ("url", "places", "primary", "database", "login", "trust"),
    [
        ("redis://host", [("host", 6379)], "", 0, Login(), None),
        ("redis://:p%40ss@host:7000/3", [("host", 7000)], "", 3, Login("", "p@ss"), None),
        ("redis://user:pass@[::1]:7000", [("::1", 7000)], "", 0, Login("user", "pass"), None),
        ("rediss://host", [("host", 6379)], "", 0, Login(), Trust()),
        ("rediss://host?ssl_ca_certs=/a/ca.crt", [("host", 6379)], "", 0, Login(), Trust("/a/ca.crt")),
        (
            "rediss://host?ssl_certfile=/a&ssl_keyfile=/b&ssl_check_hostname=false",
            [("host", 6379)],
            "",
            0,
            Login(),
            Trust(None, "/a", "/b", check_hostname=False),
        ),
        (
            "redis+sentinel://:pass@one,two:7000,[::1]:8000/dossiers/2",
            [("one", 26379), ("two", 7000), ("::1", 8000)],
            "dossiers",
            2,
            Login("", "pass"),
            None,
        ),
        ("rediss+sentinel://one/dossiers", [("one", 26379)], "dossiers", 0, Login(), Trust()),
    ],
)
def test_each_form_is_understood(
    url: str, places: list[tuple[str, int]], primary: str, database: int, login: Login, trust: Trust | None
) -> None:
    address = redis_address(url)
    assert address.places == tuple(Place(*place) for place in places)
    assert (address.primary, address.database, address.login, address.trust) == (primary, database, login, trust)


def test_the_sentinels_have_a_password_of_their_own() -> None:
    address = redis_address("redis+sentinel://:pass@one/dossiers?sentinel_username=s&sentinel_password=p%26q")
    assert address.sentinel_login == Login("s", "p&q")
    assert "pass" not in repr(address)
    assert "p&q" not in repr(address)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://:secret@host", "expected redis://, rediss://, redis\\+sentinel:// or rediss\\+sentinel://"),
        ("secret", "expected redis://"),
        ("redis://:secret@", "expected host"),
        ("redis://:secret@host:secret", "port"),
        ("redis://:secret@host:99999", "port"),
        ("redis://:secret@host/secret", "database"),
        ("redis://:secret@one,two", "Sentinels"),
        ("redis+sentinel://:secret@one,two", "name of the primary"),
        ("redis://:secret@host?ssl_ca_certs=/a", "ssl_ca_certs; this form has none"),
        ("redis://:secret@host?sentinel_password=secret", "unknown option sentinel_password"),
        ("rediss://:secret@host?ssl_cert_reqs=none", "unknown option ssl_cert_reqs"),
        ("rediss://:secret@host?ssl_check_hostname=secret", "ssl_check_hostname: expected true or false"),
        ("rediss://:secret@host?ssl_keyfile=/secret", "ssl_certfile"),
        ("redis://:secret@host\nhttp://:secret@host", "expected redis://"),
        (" ", "expected a URL"),
    ],
)
def test_what_is_no_redis_url_is_refused_without_a_secret(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        check_redis(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("mysql://role:secret@host/hoso24", "postgresql://"),
        ("postgresql://role:secret@host/hoso24?sslmode=verify", "sslmode: expected one of disable"),
    ],
)
def test_what_is_no_postgres_url_is_refused_without_a_secret(url: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        check_postgres(url)
    assert "secret" not in str(refusal.value)
    check_postgres("postgresql://role:secret@one,two:5433/hoso24?sslmode=verify-full&sslrootcert=/a")


def test_url_that_was_accepted_comes_first_as_long_as_it_is_there() -> None:
    text = ["redis://:new@host\nredis://:old@host\n"]
    urls = Urls(lambda: text[0])
    assert first(text[0]) == "redis://:new@host"
    assert list(urls) == ["redis://:new@host", "redis://:old@host"]
    urls.accepted("redis://:old@host")
    assert list(urls) == ["redis://:old@host", "redis://:new@host"]
    assert urls.tries() == ["redis://:old@host", "redis://:new@host", "redis://:old@host"]
    text[0] = "redis://:new@host"
    assert urls.tries() == ["redis://:new@host"]
    assert list(urls) == ["redis://:new@host"]
