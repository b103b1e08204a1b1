"""Signing in at the officers' provider: OpenID Connect, authorization code with PKCE S256.

Who signs a token is decided by the provider's published keys and three kinds of them, never by the token: `none` and a
shared secret in a public key's place are refused. The provider is asked only while an officer signs in.
"""

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from ops.errors import Kind, Refusal, Unavailable

ALGORITHMS: Final = ["RS256", "ES256", "EdDSA", "Ed25519"]
"""The last two are one algorithm, by its older and its newer name (RFC 9864)."""
CLOCKS_APART: Final = 90
"""Seconds by which the provider's clock and this one's may differ."""
SECONDS: Final = 5.0
"""Timeout of a request to the provider."""
KEPT: Final = 3600.0
"""Seconds for which the provider's addresses and keys are taken from memory."""
KEYS_AGAIN: Final = 10.0
"""Seconds after which its keys are read again for a token that none of them fits."""
LARGEST: Final = 2**18
"""Bytes of an answer of the provider."""


class SignInRefused(Refusal):
    """The provider, or its answer, does not let this officer in; `detail` says why, for the log."""

    kind = Kind.FORBIDDEN
    code = "sign_in_refused"
    title = "The sign-in did not succeed."
    title_vi = "Đăng nhập không thành công. Vui lòng thử lại."


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the browser that began a sign-in keeps until it comes back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> "Attempt":
        """256 random bits for each."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))

    @property
    def challenge(self) -> str:
        """PKCE's S256 of the verifier."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Provider:
    """One issuer. `http` lives as long as this; `back` is the address to which it sends officers back."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        issuer: str,
        client_id: str,
        secret: Callable[[], str] | None,
        back: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._client_id = client_id
        self._secret = secret
        self._back = back
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, Any]] = {}
        """Address → when its JSON was read, and the JSON."""

    async def begin(self, attempt: Attempt) -> str:
        """The address at the provider to which the officer goes. Raises Unavailable."""
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": self._back,
            "scope": "openid",
            "state": attempt.state,
            "nonce": attempt.nonce,
            "code_challenge": attempt.challenge,
            "code_challenge_method": "S256",
        }
        address = (await self._metadata())["authorization_endpoint"]
        return f"{address}{'&' if '?' in address else '?'}{urlencode(query)}"

    async def finish(self, attempt: Attempt, answer: Any) -> str:
        """The subject that signed in, by the query with which the officer came back.

        Raises SignInRefused for whatever does not prove it, and Unavailable when the provider cannot be asked.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise SignInRefused("state is another sign-in's")
        if answer.get("iss", self._issuer) != self._issuer:
            raise SignInRefused("iss of the answer is another provider's")
        code = answer.get("code", "")
        if not code:
            raise SignInRefused(f"the provider answered {answer.get('error', 'nothing')!r:.80}")
        return await self._subject(await self._token(code, attempt), attempt)

    async def _token(self, code: str, attempt: Attempt) -> str:
        metadata = await self._metadata()
        content = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "code_verifier": attempt.verifier,
        }
        headers = {"Accept": "application/json"}
        if self._secret is None:
            content["client_id"] = self._client_id
        elif "client_secret_basic" in metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"]):
            pair = f"{quote(self._client_id, safe='')}:{quote(self._secret(), safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            content |= {"client_id": self._client_id, "client_secret": self._secret()}
        status, answer = await self._ask("POST", metadata["token_endpoint"], data=content, headers=headers)
        token = answer.get("id_token") if isinstance(answer, dict) else None
        if status != 200 or not isinstance(token, str):
            raise SignInRefused(f"the provider refused the code with {status}")
        return token

    async def _subject(self, token: str, attempt: Attempt) -> str:
        jwks = (await self._metadata())["jwks_uri"]
        try:
            try:
                claims = _claims(token, await self._json(jwks))
            except (BadSignatureError, InvalidKeyIdError):
                claims = _claims(token, await self._json(jwks, KEYS_AGAIN))  # keys may have been rotated
            jwt.JWTClaimsRegistry(
                leeway=CLOCKS_APART,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": self._client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": attempt.nonce},
            ).validate(claims)
        except (JoseError, ValueError, TypeError, KeyError) as fault:
            raise SignInRefused(f"the token is refused: {type(fault).__name__} {fault}"[:200]) from fault
        if claims.get("azp", self._client_id) != self._client_id:
            raise SignInRefused("azp is another client")
        return str(claims["sub"])

    async def _metadata(self) -> Any:
        """The provider's metadata. Raises Unavailable, also when it is another issuer's or leads out of TLS."""
        found = await self._json(self._issuer.rstrip("/") + "/.well-known/openid-configuration")
        ours = isinstance(found, dict) and found.get("issuer") == self._issuer
        scheme = urlsplit(self._issuer).scheme
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        if not ours or any(urlsplit(str(found.get(name))).scheme not in ("https", scheme) for name in names):
            raise Unavailable(reason="the provider's metadata are not those of HOSO24_DESK_OIDC_ISSUER")
        return found

    async def _json(self, address: str, older_than: float = KEPT) -> Any:
        """The JSON there, from memory unless it is older; an old one while the provider does not answer."""
        now = self._monotonic()
        read_at, kept = self._kept.get(address, (0.0, None))
        if kept is not None and now - read_at < older_than:
            return kept
        try:
            status, found = await self._ask("GET", address)
        except Unavailable:
            if kept is None:
                raise
            return kept
        if status != 200:
            raise Unavailable(reason=f"the provider answered {status} at {urlsplit(address).path}")
        self._kept[address] = now, found
        return found

    async def _ask(self, method: str, address: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON, None for none. Raises Unavailable for no answer in time, for 5xx and for a huge one."""
        timeout = aiohttp.ClientTimeout(total=SECONDS)
        try:
            async with self._http.request(
                method, address, allow_redirects=False, timeout=timeout, **options
            ) as response:
                body = await response.content.read(LARGEST)
                while len(body) < LARGEST and (more := await response.content.read(LARGEST - len(body))):
                    body += more
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(reason=f"the provider: {type(error).__name__}") from error
        if response.status >= 500 or len(body) >= LARGEST:
            raise Unavailable(reason=f"the provider answered {response.status}")
        try:
            return response.status, json.loads(body)
        except ValueError:
            return response.status, None


def _claims(token: str, jwks: Any) -> dict[str, Any]:
    """The claims of a token that one of these keys has signed. Raises JoseError, ValueError, TypeError, KeyError."""
    keys: Collection[Any] = jwks["keys"]
    signing = [key for key in keys if key.get("use", "sig") == "sig" and key.get("kty") != "oct"]
    return jwt.decode(token, KeySet.import_key_set({"keys": signing}), algorithms=ALGORITHMS).claims
