"""What the browsers of phones, and of some desks, send along. No I/O."""

import random

_ANDROID = "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
CHROME = {
    "Cache-Control": "max-age=0",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
    "sec-ch-ua-mobile": "?1",
    "sec-ch-ua-platform": '"Android"',
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": f"{_ANDROID} Chrome/140.0.0.0 Mobile Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "vi-VN,vi;q=0.9,en-US;q=0.8,en;q=0.7",
}
"""What Chrome on a telephone sends for a page whose address was typed or scanned."""
_AGENTS = (
    CHROME["User-Agent"],
    f"{_ANDROID} Version/4.0 Chrome/138.0.0.0 Mobile Safari/537.36 Zalo android/25090000",
    f"{_IPHONE} Version/18.6 Mobile/15E148 Safari/604.1",
)


def headers(language: str) -> dict[str, str]:
    """The headers of one phone whose owner reads this language first."""
    read = {} if language == "vi" else {"Accept-Language": "en-US,en;q=0.9"}
    return CHROME | {"User-Agent": random.choice(_AGENTS), "Sec-Fetch-Site": "same-origin"} | read
