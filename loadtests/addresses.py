"""Whose address people have. No I/O.

Behind a proxy that the service trusts, as `make up` trusts this machine, X-Forwarded-For says it. All of these are set
aside for documentation and benchmarks (RFC 5737, RFC 2544): no client has them.
"""

import random

HEADER = "X-Forwarded-For"

CARRIERS = tuple(f"198.51.100.{number}" for number in range(1, 9))
"""Of mobile carriers, who put thousands of subscribers behind one address each."""
SHARED_WITH_ATTACKERS = CARRIERS[0]

_BEHIND_A_CARRIER = 0.6
"""The share of citizens who are on the phone's own network; the rest have an address to themselves. Assumed."""


def citizen() -> str:
    """That of a citizen at home, in an office, or under way."""
    if random.random() < _BEHIND_A_CARRIER:
        return random.choice(CARRIERS[1:])
    return f"198.{random.randint(18, 19)}.{random.randint(0, 255)}.{random.randint(1, 254)}"


def portal() -> str:
    """That of a provincial portal's servers; an installation makes such networks partners (HOSO24_PARTNERS)."""
    return f"203.0.113.{random.randint(1, 254)}"
