"""The proxy of an outgoing call, by HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.

The names are read in lower and in upper case; as in curl and Python the lower-case name wins, even
if it is empty. Calls to this machine itself never use a proxy.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import unquote, urlsplit

import msgspec

from receiver.errors import ConfigIssue
from receiver.secret import Secret

KINDS = frozenset({"http", "https", "socks5", "socks5h"})
LOOPBACK = frozenset({"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"})
OWN_ADDRESSES = "localhost,127.0.0.0/8,::1"
ANY_PORT = 0
IPV4_PARTS = 4
# A scheme or a word is read as the host if a slash is missing, or if it means "no proxy".
_NO_HOST = re.compile(r"\w+://(https?:?|direct|none|null|false|no|off)(/.*)?", re.IGNORECASE)

Network = IPv4Network | IPv6Network
_NO_SOCKS = (
    "Name an HTTP proxy; or install SOCKS support, with this Python: pip install 'httpx[socks]'"
)


class Proxy(msgspec.Struct, frozen=True):
    """One proxy, and the variable that names it. Its URL may contain a password.

    The URL's scheme is in lower case.
    """

    variable: str
    url: Secret

    @property
    def socks(self) -> bool:
        """Whether it speaks SOCKS, for which httpx needs another package."""
        return self.url.reveal().startswith("socks")

    @property
    def secure(self) -> bool:
        """Whether the connection to the proxy itself uses TLS."""
        return self.url.reveal().startswith("https:")

    def __str__(self) -> str:
        parts = urlsplit(self.url.reveal())
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


class Exempt(msgspec.Struct, frozen=True):
    """One entry of NO_PROXY: a network, or a host name with its subdomains, optionally with `*`."""

    network: Network | None = None
    name: str = ""
    port: int = ANY_PORT

    def covers(self, host: str, port: int) -> bool:
        """Return whether a call to the host, in lower case, uses no proxy."""
        if self.port not in {ANY_PORT, port}:
            return False
        if self.network is not None:
            address = _address(host)
            return address is not None and address in self.network
        if "*" in self.name:
            return fnmatchcase(host, self.name)
        return host == self.name or host.endswith(f".{self.name}")


class Proxies(msgspec.Struct, frozen=True):
    """The proxies by the scheme of the called URL, and the hosts that are called directly."""

    http: Proxy | None = None
    https: Proxy | None = None
    exempt: tuple[Exempt, ...] = ()

    def proxy_for(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Return the proxy for a call, None for a direct call."""
        proxy = self.https if scheme == "https" else self.http
        host = host.lower().strip("[]").rstrip(".")
        if proxy is None or is_loopback(host):
            return None
        default = 443 if scheme == "https" else 80
        exempt = any(entry.covers(host, port or default) for entry in self.exempt)
        return None if exempt else proxy

    def passwords(self) -> Iterable[Secret]:
        """Return the passwords, which must not be shown."""
        for proxy in (self.http, self.https):
            password = urlsplit(proxy.url.reveal()).password if proxy is not None else None
            if password:
                yield from {Secret(password), Secret(unquote(password))}


def read_proxies(environ: Mapping[str, str], *, socks: bool) -> tuple[Proxies, list[ConfigIssue]]:
    """Read the variables; return an error for each that cannot be used, with its name and entry.

    `socks`: whether the package for SOCKS is installed.
    """
    faults: list[ConfigIssue] = []

    def proxy(*names: str) -> Proxy | None:
        for name in names:
            variable, text = _given(environ, name)
            if text:
                found = _read_proxy(variable, text)
                if isinstance(found, ConfigIssue):
                    faults.append(found)
                    return None
                if found.socks and not socks:
                    faults.append(ConfigIssue(variable, f"{found} is a SOCKS proxy", _NO_SOCKS))
                return found
            if variable:
                return None  # the variable is empty on purpose
        return None

    http, https = proxy("http_proxy", "all_proxy"), proxy("https_proxy", "all_proxy")
    variable, text = _given(environ, "no_proxy")
    exempt = [_read_entry(variable, entry) for entry in re.split(r"[\s,;]+", text) if entry]
    faults += [entry for entry in exempt if isinstance(entry, ConfigIssue)]
    entries = tuple(entry for entry in exempt if isinstance(entry, Exempt))
    return Proxies(http, https, entries), list(dict.fromkeys(faults))


def as_requests_reads(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which `requests`, and so Apprise, uses the same proxies.

    It does not exempt this machine's addresses, reads `*` only alone, and has another variable for
    certificates (requests.readthedocs.io/en/latest/user/advanced).
    """
    given = (_given(environ, name) for name in ("http_proxy", "https_proxy", "all_proxy"))
    found = {variable: text for variable, text in given if variable}
    _, exempt = _given(environ, "no_proxy")
    found["no_proxy"] = exempt if exempt == "*" else ",".join(filter(None, (exempt, OWN_ADDRESSES)))
    bundle = environ.get("SSL_CERT_FILE") or environ.get("SSL_CERT_DIR")
    if bundle and not environ.get("REQUESTS_CA_BUNDLE"):
        found["REQUESTS_CA_BUNDLE"] = bundle
    return found


def is_loopback(host: str) -> bool:
    """Return whether a name or address is this machine's own."""
    address = _address(host)
    if address is None:
        return host in LOOPBACK or host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _given(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """Return the variable that is set, in its spelling, and its text; "" and "" if none is set."""
    for spelling in (name, name.upper()):
        if spelling in environ:
            return spelling, environ[spelling].strip()
    return "", ""


def _read_proxy(variable: str, text: str) -> Proxy | ConfigIssue:
    scheme, separator, rest = text.partition("://")
    url = f"{scheme.lower()}://{rest}" if separator else f"http://{text}"
    try:
        parts = urlsplit(url)
        good = parts.scheme in KINDS and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or _NO_HOST.fullmatch(url) or re.search(r"[\s'\"<>]", url):
        fix = "Write http://host:port (in a password %23 for #, %2F for /, %3F for ?), or unset it"
        return ConfigIssue(variable, "it is not the URL of a proxy", fix)
    return Proxy(variable, Secret(url))


def _read_entry(variable: str, entry: str) -> Exempt | ConfigIssue:
    """Read one entry of NO_PROXY: `.example.com`, `10.0.0.0/8`, `[::1]:8080`, `*` and the like."""
    text = entry.partition("://")[2] or entry
    text = text.lower().strip("\"'")
    host, port = text, ""
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and rest[0] not in ":/"):
            return _bad_entry(variable, entry)
        host, port = (host + rest, "") if rest.startswith("/") else (host, rest[1:])
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if port and not port.isdecimal():
        return _bad_entry(variable, entry)
    if re.fullmatch(r"(\d{1,3}\.){1,3}", host):  # 10. is 10.*
        host += "*"
    network = _network(host)
    if network is not None:
        return Exempt(network=network, port=int(port or ANY_PORT))
    name, _, path = host.partition("/")
    name = name.removeprefix("*." if name.count("*") == 1 else "").strip(".")
    is_name = re.fullmatch(r"[\w.*-]+", name) is not None
    if not is_name or (path and re.fullmatch(r"[\d.:]+", name)) or text.startswith("["):
        return _bad_entry(variable, entry)
    return Exempt(name=name, port=int(port or ANY_PORT))


def _bad_entry(variable: str, entry: str) -> ConfigIssue:
    what = f"its entry {entry!r} is neither a host, nor an address, nor a network"
    return ConfigIssue(variable, what, "Write for instance localhost,.example.com,10.0.0.0/8,[::1]")


def _network(text: str) -> Network | None:
    address, slash, bits = text.partition("/")
    if slash and re.fullmatch(r"\d+(\.\d+){0,2}", address):  # as curl reads it: 10/8
        address += ".0" * (IPV4_PARTS - 1 - address.count("."))
    try:
        return ip_network(f"{address.partition('%')[0]}{slash}{bits}", strict=False)
    except ValueError:
        return None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        return None
