"""The variables for proxies and certificates of outgoing calls, and the errors in them.

They are read without an HTTP client, because `receiver check` makes no calls.
"""

import importlib.util
import os
import re
import ssl
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from receiver.config.variables import Variables, endless_kind
from receiver.errors import ConfigIssue
from receiver.http.proxies import Proxies, read_proxies

CERT_FILE, CERT_DIR = "SSL_CERT_FILE", "SSL_CERT_DIR"
HASHED = re.compile(r"[0-9a-f]{8}\.\d+")  # how OpenSSL looks a certificate up in a folder


def outgoing_proxies(environ: Mapping[str, str]) -> tuple[Proxies, list[ConfigIssue]]:
    """Return the proxies that the environment names, and the errors in them."""
    cleaned = environ if isinstance(environ, Variables) else Variables(environ)
    return read_proxies(cleaned, socks=importlib.util.find_spec("socksio") is not None)


def outgoing_faults(environ: Mapping[str, str]) -> list[ConfigIssue]:
    """Return the errors in the variables for proxies and certificates."""
    return [*outgoing_proxies(environ)[1], *certificate_faults(environ)]


def certificate_faults(environ: Mapping[str, str]) -> list[ConfigIssue]:
    """Return the errors in the certificates that the environment names."""
    faults = []
    file, folders = certificate_paths(environ)
    try:
        kind = endless_kind(Path(file)) if file else None
        if kind is not None:
            what = f"{file} is {kind}, not a file"
            return [ConfigIssue(CERT_FILE, what, "Name a file of certificates in PEM, or unset it")]
        trust_in(file, folders)
    except OSError as error:  # ssl.SSLError is one
        why = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        what = f"{file} cannot be read ({why})"
        faults.append(
            ConfigIssue(CERT_FILE, what, "Name a file of certificates in PEM, or unset it")
        )
    for folder in filter(None, folders.split(os.pathsep)):
        try:
            hashed = any(HASHED.fullmatch(path.name) for path in Path(folder).iterdir())
            what = "" if hashed or file else f"{folder} has no certificate under its hash"
        except OSError as error:
            what = f"{folder} cannot be read ({error.strerror})"
        if what:
            faults.append(ConfigIssue(CERT_DIR, what, f"Run: openssl rehash {folder}; or unset it"))
    return faults


def certificate_paths(environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the file and the folders of certificates that the environment names, or nothing."""
    folders = environ.get(CERT_DIR, "").strip().strip(os.pathsep)
    return environ.get(CERT_FILE, "").strip(), folders


@lru_cache(maxsize=8)
def trust_in(file: str, folders: str) -> ssl.SSLContext | None:
    """Return a context that trusts these certificates, None for no paths; raises OSError."""
    if not file and not folders:
        return None
    return ssl.create_default_context(cafile=file or None, capath=folders or None)
