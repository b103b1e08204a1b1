"""`make fresh` reaches packages as this machine does, and takes nothing else of this machine along."""

import os
from pathlib import Path

import pytest

from tests import fresh


def test_pip_is_configured_as_here(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = "global.extra-index-url='file:///a/simple\\nfile:///b/simple'\ninstall.no-cache='1'\n:env:.cert='/c'\n"
    monkeypatch.setattr(fresh, "output", lambda command: printed)
    assert fresh.pip_configuration() == (
        "[global]\nextra-index-url = file:///a/simple\n    file:///b/simple\n[install]\nno-cache = 1\n"
    )


def test_apt_is_told_about_proxies_and_dates_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ['Acquire::http::Proxy "http://127.0.0.1:3142";', 'Acquire::Check-Valid-Until "false";']
    others = ['Acquire::http "";', 'Acquire::Languages "none";', 'Acquire::IndexTargets::deb::DEP-11 "";']
    monkeypatch.setattr(fresh, "output", lambda command: "\n".join([*others, *wanted]))
    assert fresh.apt_configuration().splitlines() == wanted


def test_files_that_the_configuration_names_are_brought_along(tmp_path: Path) -> None:
    simple, certificate = tmp_path / "index/simple", tmp_path / "ca.crt"
    simple.mkdir(parents=True)
    certificate.touch()
    texts = [
        f"extra-index-url = file://{simple}\n    file://{tmp_path}/away/simple",
        f"cafile={certificate} nodedir=/usr",
    ]
    assert fresh.paths_in([*texts, "https://127.0.0.1/simple", "true"]) == {simple.parent, certificate}


@pytest.mark.parametrize(
    ("name", "passed_on"),
    [
        ("https_proxy", True),
        ("NO_PROXY", True),
        ("PIP_CERT", True),
        ("SSL_CERT_FILE", True),
        ("npm_config_registry", True),
        ("HOME", False),
        ("PYTHONPATH", False),
        ("HOSO24_PG_READER_URL", False),
        ("CI", False),
    ],
)
def test_only_variables_about_packages_are_passed_on(name: str, passed_on: bool) -> None:
    assert bool(fresh.PASSED_ON.fullmatch(name)) is passed_on
    assert name not in fresh.environment("citizen") or name == "HOME"


def test_a_user_has_no_folders_of_system_programs_on_its_path() -> None:
    assert "sbin" not in fresh.environment("citizen")["PATH"]
    assert "/usr/sbin" in fresh.environment("root")["PATH"].split(os.pathsep)
