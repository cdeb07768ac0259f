"""HTTP clients for all outgoing calls, and the bodies of responses, read up to a limit.

The proxy and the certificates are those of the environment: httpx itself does not know networks in
NO_PROXY, raises at `[::1]`, and sends calls to this machine through the proxy.

httpx decompresses each part of a body as a whole, however large it becomes: two layers of gzip turn
1,142 bytes into 1.3 GB. Bodies are therefore requested unencoded and read raw.
"""

import asyncio
import os
import ssl
import zlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import httpx

from receiver.config.variables import Variables
from receiver.errors import ConfigError, ReceiverError
from receiver.http.proxies import Proxies, Proxy
from receiver.http.variables import (
    CERT_FILE,
    certificate_paths,
    outgoing_faults,
    outgoing_proxies,
    trust_in,
)
from receiver.logs import masking

UNENCODED = {"Accept-Encoding": "identity"}
_DECODED = frozenset({"gzip", "x-gzip", "deflate"})
_GZIP_OR_ZLIB = 47  # the window bits with which zlib recognizes both by their headers
MAX_ERROR = 100


class UnreadableBody(ReceiverError):
    """The body has an unsupported encoding, or its encoding is broken."""


class BodyTooLarge(UnreadableBody):
    """The body is over the limit; `beginning` is the part up to the limit."""

    def __init__(self, beginning: bytes, limit: int) -> None:
        size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        super().__init__(f"the response is over {size}")
        self.beginning = beginning


NO_ANSWER = (TimeoutError, httpx.HTTPError, httpx.StreamError, UnreadableBody, ValueError)
"""What `ask` raises, and reading its body as JSON."""


async def ask(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    largest: int,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    body: object = None,
) -> tuple[httpx.Response, bytes]:
    """Make one call and return its response with its body, both within this many seconds.

    Raises TimeoutError, and what `read_bounded` raises.
    """
    asked = {**UNENCODED, **(headers or {})}
    async with (
        asyncio.timeout(seconds),
        http.stream(method, url, headers=asked, json=body, timeout=seconds) as response,
    ):
        return response, await read_bounded(response, largest)


async def read_bounded(response: httpx.Response, limit: int) -> bytes:
    """Read the body of a streamed response; at most `limit` bytes are held in memory.

    One layer of gzip or deflate is decoded, for a proxy that compresses without being asked.
    Raises BodyTooLarge as soon as the limit is passed, UnreadableBody for any other encoding, and
    what httpx raises while reading.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB) if encoding in _DECODED else None
    content = bytearray()
    async for part in response.aiter_raw():
        if decoder is None and encoding not in {"", "identity"}:
            raise UnreadableBody("the response is encoded, although it was requested unencoded")
        content += part if decoder is None else _decoded(decoder, part, limit + 1 - len(content))
        if len(content) > limit:
            raise BodyTooLarge(bytes(content[:limit]), limit)
    if decoder is not None and content and not decoder.eof:
        raise UnreadableBody("the compressed response is cut off")
    return bytes(content)


def decompressed(content: bytes, limit: int) -> bytes:
    """Return gzip or deflate content decoded; raises BodyTooLarge or UnreadableBody."""
    decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
    decoded = _decoded(decoder, content, limit + 1)
    if len(decoded) > limit:
        raise BodyTooLarge(decoded[:limit], limit)
    if not decoder.eof:
        raise UnreadableBody("the compressed content is cut off")
    return decoded


def _decoded(decoder: "zlib._Decompress", part: bytes, most: int) -> bytes:
    try:
        return decoder.decompress(part, most)
    except zlib.error:
        raise UnreadableBody("the compressed response cannot be decoded") from None


def http_client(*, direct: bool = False, **options: Any) -> httpx.AsyncClient:
    """Return a client; the options are httpx's. `direct`: without proxy, for this receiver itself.

    Raises ConfigError if a variable for proxies or certificates cannot be used.
    """
    if direct:
        proxies, trust = Proxies(), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        variables = Variables(os.environ)
        faults = [*outgoing_faults(variables), *variables.faults]
        if faults:
            raise ConfigError(tuple(faults))
        proxies = outgoing_proxies(variables)[0]
        trust = trust_in(*certificate_paths(variables)) or _usual_trust()
    masking.know(proxies.passwords())
    return httpx.AsyncClient(transport=_Routed(proxies, trust), trust_env=False, **options)


def no_connection(error: httpx.TransportError) -> str:
    """Return why there is no connection, in a few words, and the proxy that was used."""
    url = error.request.url
    proxy = outgoing_proxies(os.environ)[0].proxy_for(url.scheme, url.host, url.port)
    if isinstance(error, httpx.ProxyError):
        why = f"the proxy refused the connection: {masking(str(error))[:MAX_ERROR]}"
    elif "CERTIFICATE_VERIFY_FAILED" in str(error):
        why = f"no connection: the certificate is not trusted, see {CERT_FILE}"
    else:
        why = "no connection"
    return why if proxy is None else f"{why} ({proxy.variable} is {proxy})"


@lru_cache(maxsize=1)
def _usual_trust() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


class _Routed(httpx.AsyncBaseTransport):
    """Sends each call through its proxy, or directly."""

    def __init__(self, proxies: Proxies, trust: ssl.SSLContext) -> None:
        self._proxies = proxies
        self._trust = trust
        self._by_proxy: dict[Proxy | None, httpx.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        proxy = self._proxies.proxy_for(url.scheme, url.host, url.port)
        if proxy not in self._by_proxy:
            self._by_proxy[proxy] = self._open(proxy)
        return await self._by_proxy[proxy].handle_async_request(request)

    async def aclose(self) -> None:
        for transport in self._by_proxy.values():
            await transport.aclose()

    def _open(self, proxy: Proxy | None) -> httpx.AsyncHTTPTransport:
        if proxy is None:
            return httpx.AsyncHTTPTransport(verify=self._trust, trust_env=False)
        trust = self._trust if proxy.secure else None
        by = httpx.Proxy(proxy.url.reveal(), ssl_context=trust)
        return httpx.AsyncHTTPTransport(verify=self._trust, trust_env=False, proxy=by)
