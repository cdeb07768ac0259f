"""HTTP clients for all outgoing calls, with the proxy and the certificates of the environment.

httpx itself does not know networks in NO_PROXY, raises at `[::1]`, and sends calls to this machine
through the proxy.
"""

import importlib.util
import os
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx

from receiver.errors import ConfigError, Fault
from receiver.logs import masking
from receiver.proxies import Proxies, Proxy, read_proxies
from receiver.variables import Variables

CERT_FILE, CERT_DIR = "SSL_CERT_FILE", "SSL_CERT_DIR"
LONGEST = 100
HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # the file names by which OpenSSL finds certificates


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
        proxies, trust = outgoing_proxies(variables)[0], _trust(*_named(variables))
    masking.know(proxies.passwords())
    return httpx.AsyncClient(transport=_Routed(proxies, trust), trust_env=False, **options)


def outgoing_proxies(environ: Mapping[str, str]) -> tuple[Proxies, list[Fault]]:
    """Return the proxies that the environment names, and their errors."""
    cleaned = environ if isinstance(environ, Variables) else Variables(environ)
    return read_proxies(cleaned, socks=importlib.util.find_spec("socksio") is not None)


def outgoing_faults(environ: Mapping[str, str]) -> list[Fault]:
    """Return the errors of the variables for proxies and certificates."""
    return [*outgoing_proxies(environ)[1], *certificate_faults(environ)]


def certificate_faults(environ: Mapping[str, str]) -> list[Fault]:
    """Return the errors of the certificates that the environment names."""
    faults = []
    file, folders = _named(environ)
    try:
        _trust(file, folders)
    except OSError as error:  # ssl.SSLError is an OSError
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        what = f"{file} cannot be read ({why})"
        faults.append(Fault(CERT_FILE, what, "Name a file of certificates in PEM, or unset it"))
    for folder in filter(None, folders.split(os.pathsep)):
        try:
            hashed = any(HASHED.fullmatch(path.name) for path in Path(folder).iterdir())
            what = "" if hashed or file else f"{folder} has no certificate under its hash"
        except OSError as error:
            what = f"{folder} cannot be read ({error.strerror})"
        if what:
            faults.append(Fault(CERT_DIR, what, f"Run: openssl rehash {folder}; or unset it"))
    return faults


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


def _named(environ: Mapping[str, str]) -> tuple[str, str]:
    return environ.get(CERT_FILE, "").strip(), environ.get(CERT_DIR, "").strip()


@lru_cache(maxsize=8)
def _trust(file: str, folders: str) -> ssl.SSLContext:
    if file or folders:
        return ssl.create_default_context(cafile=file or None, capath=folders or None)
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
        secure = proxy.url.reveal().startswith("https:")
        by = httpx.Proxy(proxy.url.reveal(), ssl_context=self._trust if secure else None)
        return httpx.AsyncHTTPTransport(verify=self._trust, trust_env=False, proxy=by)
