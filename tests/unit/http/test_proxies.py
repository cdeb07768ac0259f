"""Which proxy a call uses: what curl, Python and Go read in the same variables."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.http.proxies import Proxies, as_requests_reads, is_loopback, read_proxies

CORPORATE = {"HTTPS_PROXY": "http://proxy.corp:3128", "HTTP_PROXY": "http://plain.corp:3128"}


def read(**environ: str) -> Proxies:
    proxies, faults = read_proxies(environ, socks=True)
    assert faults == []
    return proxies


def used(proxies: Proxies, scheme: str = "https", host: str = "api.edgegap.com") -> str | None:
    proxy = proxies.proxy_for(scheme, host, None)
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("environ", "https", "http"),
    [
        ({}, None, None),
        (CORPORATE, "http://proxy.corp:3128", "http://plain.corp:3128"),
        ({"https_proxy": "proxy:80"}, "http://proxy:80", None),
        ({"ALL_PROXY": "https://all:443"}, "https://all:443", "https://all:443"),
        ({"all_proxy": "socks5h://all:1080"}, "socks5h://all:1080", "socks5h://all:1080"),
        (
            {**CORPORATE, "https_proxy": "http://lower:1"},
            "http://lower:1",
            "http://plain.corp:3128",
        ),
        ({**CORPORATE, "https_proxy": ""}, None, "http://plain.corp:3128"),
        ({"HTTPS_PROXY": "http://a:1", "ALL_PROXY": "http://b:2"}, "http://a:1", "http://b:2"),
        ({"HTTPS_PROXY": " http://me:p%40ss@a:1/ "}, "http://a:1", None),
        ({"HTTPS_PROXY": "http://[fd00::1]:3128"}, "http://[fd00::1]:3128", None),
    ],
)
def test_the_variables_name_a_proxy_by_scheme(
    environ: dict[str, str], https: str | None, http: str | None
) -> None:
    proxies = read(**environ)

    assert (used(proxies), used(proxies, "http")) == (https, http)


@pytest.mark.parametrize(
    ("entries", "host", "port", "exempt"),
    [
        ("*", "anything.example", None, True),
        ("example.com", "example.com", None, True),
        ("example.com", "api.example.com", None, True),
        ("example.com", "notexample.com", None, False),
        (".example.com", "api.example.com", None, True),
        (".example.com", "example.com", None, True),
        ("*.example.com", "api.example.com", None, True),
        ("*.example.com", "example.org", None, False),
        ("EXAMPLE.com", "Example.COM.", None, True),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", None, False),
        ("example.com:443", "example.com", None, True),
        ("https://example.com/", "example.com", None, True),
        ("10.1.2.3", "10.1.2.3", None, True),
        ("10.0.0.0/8", "10.200.0.1", None, True),
        ("10/8", "10.200.0.1", None, True),
        ("169.254/16", "169.254.169.254", None, True),
        ("10.0.0.0/8", "11.0.0.1", None, False),
        ("10.0.0.0/8", "10.example.com", None, False),
        ("10.*", "10.200.0.1", None, True),
        ("10.", "10.200.0.1", None, True),
        ("10.200.", "10.20.0.1", None, False),
        ("10.1.2.3:8080", "10.1.2.3", 8080, True),
        ("10.1.2.3:8080", "10.1.2.3", 80, False),
        ("fd00::1", "fd00::1", None, True),
        ("[fd00::1]", "[fd00::1]", None, True),
        ("[fd00::1]:8080", "fd00::1", 8080, True),
        ("[fd00::1]:8080", "fd00::1", 443, False),
        ("fd00::/8", "fd12::1", None, True),
        ("[fd00::]/8", "fd12::1", None, True),
        ("a.example  b.example,,c.example;", "b.example", None, True),
        ("a.example  b.example,,c.example;", "c.example", None, True),
        ('"quoted.example"', "quoted.example", None, True),
    ],
)
def test_no_proxy_takes_names_networks_ports_and_wildcards(
    entries: str, host: str, port: int | None, exempt: bool
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        proxies = read(**CORPORATE, **{name: entries})

        assert (proxies.proxy_for("https", host, port) is None) is exempt


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "0.0.0.0",  # noqa: S104
     "::", "::ffff:127.0.0.1"],
)  # fmt: skip
def test_this_machine_is_called_directly_without_no_proxy(host: str) -> None:
    assert used(read(**CORPORATE), "http", host) is None


def test_a_neighbour_is_not_this_machine() -> None:
    assert not is_loopback("128.0.0.1")
    assert not is_loopback("localhost.example.com")


@pytest.mark.parametrize(
    ("variable", "value", "shown"),
    [
        ("NO_PROXY", "localhost,[::1", "'[::1'"),
        ("no_proxy", "10.0.0.0/40", "'10.0.0.0/40'"),
        ("NO_PROXY", "[::1]x", "'[::1]x'"),
        ("NO_PROXY", "[not-an-address]", "'[not-an-address]'"),
        ("NO_PROXY", "a.example:http", "'a.example:http'"),
        ("NO_PROXY", "host{}", "'host{}'"),
        ("HTTPS_PROXY", "http:/proxy:3128", "not the URL of a proxy"),
        ("HTTPS_PROXY", "https//proxy:3128", "not the URL of a proxy"),
        ("HTTPS_PROXY", "DIRECT", "not the URL of a proxy"),
        ("https_proxy", "none", "not the URL of a proxy"),
        ("HTTPS_PROXY", "http://", "not the URL of a proxy"),
        ("HTTPS_PROXY", "http://proxy:notaport", "not the URL of a proxy"),
        ("https_proxy", "ftp://proxy:21", "not the URL of a proxy"),
        ("HTTPS_PROXY", '"http://proxy:3128"', "not the URL of a proxy"),
        ("HTTPS_PROXY", "http://[::1", "not the URL of a proxy"),
        ("ALL_PROXY", "socks4://proxy:1080", "not the URL of a proxy"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_entry(variable: str, value: str, shown: str) -> None:
    _, faults = read_proxies({variable: value}, socks=True)

    (fault,) = faults
    assert fault.where == variable
    assert shown in fault.what


def test_a_socks_proxy_that_cannot_be_spoken_to_is_named_once() -> None:
    environ = {"ALL_PROXY": "socks5://me:secret@proxy:1080"}

    _, (fault,) = read_proxies(environ, socks=False)

    assert str(fault) == (
        "ALL_PROXY: socks5://proxy:1080 is a SOCKS proxy. Name an HTTP proxy; or install "
        "SOCKS support, with this Python: pip install 'httpx[socks]'"
    )
    assert read_proxies({**environ, **CORPORATE}, socks=False)[1] == []


@pytest.mark.parametrize("scheme", ["SOCKS5", "Socks5h", "HTTPS", "Http"])
def test_a_scheme_is_read_in_any_case(scheme: str) -> None:
    proxies, _ = read_proxies({"ALL_PROXY": f"{scheme}://Me:Secret@Proxy:1080"}, socks=False)

    assert proxies.https is not None
    assert proxies.https.url.reveal() == f"{scheme.lower()}://Me:Secret@Proxy:1080"
    assert proxies.https.socks == scheme.lower().startswith("socks")
    assert proxies.https.secure == (scheme == "HTTPS")


def test_a_socks_proxy_in_capitals_is_refused_without_its_package() -> None:
    _, (fault,) = read_proxies({"ALL_PROXY": "SOCKS5://proxy:1080"}, socks=False)

    assert "is a SOCKS proxy" in fault.what


def test_its_password_is_known_as_a_secret_in_each_spelling() -> None:
    proxies = read(HTTPS_PROXY="http://me:p%40ss@proxy:1")

    assert {secret.reveal() for secret in proxies.passwords()} == {"p%40ss", "p@ss"}


def test_what_apprise_is_given_exempts_this_machine_and_names_the_certificates() -> None:
    given = as_requests_reads({**CORPORATE, "NO_PROXY": "a.example", "SSL_CERT_FILE": "/ca.pem"})

    assert given == {
        **CORPORATE,
        "no_proxy": "a.example,localhost,127.0.0.0/8,::1",
        "REQUESTS_CA_BUNDLE": "/ca.pem",
    }
    own = {"SSL_CERT_DIR": "/ca", "REQUESTS_CA_BUNDLE": "/own.pem", "no_proxy": "*"}
    assert as_requests_reads(own) == {"no_proxy": "*"}


@given(st.dictionaries(st.sampled_from(["HTTPS_PROXY", "no_proxy", "ALL_PROXY"]), st.text()))
@example({"HTTPS_PROXY": "http://[::ffff:1.2.3.4%x]:1", "no_proxy": "[/"})
def test_no_value_ends_in_anything_but_faults(environ: dict[str, str]) -> None:
    proxies, faults = read_proxies(environ, socks=True)

    assert {fault.where for fault in faults} <= set(environ)
    for host in ("api.edgegap.com", "10.0.0.1", "fd00::1", ""):
        proxies.proxy_for("https", host, None)
