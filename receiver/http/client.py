"""HTTP clients for all outgoing calls, with the proxy and the certificates of the environment.

httpx itself does not know networks in NO_PROXY, raises at `[::1]`, and sends calls to this machine
through the proxy.
"""

import os
import ssl
from functools import lru_cache
from typing import Any

import httpx

from receiver.config.variables import Variables
from receiver.errors import ConfigError
from receiver.http.proxies import Proxies, Proxy
from receiver.http.variables import (
    CERT_FILE,
    certificate_paths,
    outgoing_faults,
    outgoing_proxies,
    trust_in,
)
from receiver.logs import masking

LONGEST = 100


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
        why = f"the proxy refused the connection: {masking(str(error))[:LONGEST]}"
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
