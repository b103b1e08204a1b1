"""Checks whether the processes of this machine can tell clients apart: by what each reports on its admin port."""

from collections.abc import Iterator
from typing import Any

import aiohttp
import msgspec

from ops.doctor import SERVER_DEADLINE
from ops.doctor.findings import Check, Finding, Verdict
from ops.http.client_address import COUNTED, FORWARDED

MOST = 0.5
"""Share of the latest requests from which one address is taken for a load balancer's own."""


def clients(service: str, admin_port: str) -> Iterator[Check]:
    """The check of one service's process on this machine; no finding where none answers at this admin port.

    Nothing for a port that is no number, which the check of the settings reports.
    """
    if not admin_port.isdecimal():
        return
    name = f"clients of {service}"

    async def ask() -> list[Finding]:
        told = await report(admin_port, "clients")
        return [] if told is None else [_judged(name, told)]

    yield Check(name, ask)


async def report(admin_port: str, name: str) -> dict[str, Any] | None:
    """A report of the process of this machine with this admin port; None where none answers or makes it."""
    url = f"http://127.0.0.1:{admin_port}/reports/{name}"
    try:
        timeout = aiohttp.ClientTimeout(total=SERVER_DEADLINE)
        async with aiohttp.ClientSession(timeout=timeout) as http, http.get(url) as response:
            told: dict[str, Any] = msgspec.json.decode(await response.read(), type=dict[str, Any])
            return told if response.status == 200 else None
    except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError):
        return None


def _judged(name: str, report: dict[str, Any]) -> Finding:
    if report["ignored"] and not report["proxies"]:
        found = f"{report['ignored']:,} requests came with {FORWARDED}, and no proxy is named: it was ignored"
        step = "Name your proxies' networks in HOSO24_TRUSTED_PROXIES. Without a proxy, clients made the header up."
        return Finding(name, Verdict.WARNING, found, step)
    share = report["share"]
    if report["counted"] >= COUNTED and share > MOST:
        found = f"one address makes {share:.0%} of the latest {report['counted']:,} requests"
        step = (
            "Check whether a load balancer replaces client addresses by its own: let it pass them on "
            "(externalTrafficPolicy: Local, or the PROXY protocol), or name the proxy in HOSO24_TRUSTED_PROXIES."
        )
        return Finding(name, Verdict.WARNING, found, step)
    return Finding(name, Verdict.OK, f"told apart, {report['proxies']} networks of proxies named")
