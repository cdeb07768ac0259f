"""Doctor: finds what will go wrong before it does; each finding comes with its mend.

Everything is asked with reads only.
"""

import hmac
import os
import time
from collections.abc import AsyncIterator, Awaitable
from email.utils import parsedate_to_datetime
from secrets import token_urlsafe
from typing import Any

import httpx

from receiver.config_warnings import link_length_fault
from receiver.doctor_hub import examine_docker_hub
from receiver.edgegap.answers import Answer
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.versions import newest
from receiver.errors import LedgerError
from receiver.findings import Finding, failed, passed, warned
from receiver.hook_tokens import PATH, LinkKeys
from receiver.ledger.ledger import Ledger
from receiver.preflight import Preflight
from receiver.retry import detail_of
from receiver.rules import Rule
from receiver.settings import Settings

CLOCK_SECONDS = 60.0
REACH_SECONDS = 10.0
GREETING_WORD = "Docker Hub"
PROOF = "Receiver-Proof"
FORBIDDEN = 403
MOST_NAMED = 10
NOT_FOUND = 404


async def examine(
    settings: Settings, client: EdgegapClient, preflight: Preflight, http: httpx.AsyncClient
) -> AsyncIterator[Finding]:
    """Look at everything, one finding after another, the cheap ones first."""
    yield _ledger(settings)
    async for finding in _edgegap(settings, client):
        yield finding
    async for finding in examine_docker_hub(settings.rules, preflight):
        yield finding
    async for finding in _public_url(settings, http):
        yield finding
    yield await _clock(settings, http)


def _ledger(settings: Settings) -> Finding:
    ledger = Ledger(settings.database_url)
    try:
        ledger.open_to_read()
    except LedgerError as error:
        missing = ledger.path is not None and not ledger.path.exists()
        if missing and ledger.path is not None and os.access(ledger.path.parent, os.W_OK):
            return passed("ledger", f"{ledger.path} will be made by `receiver serve`")
        mend = "Do what it says, or check DATABASE_URL and who may write there"
        return failed("ledger", str(error), mend)
    finally:
        ledger.close()
    return passed("ledger", f"{ledger.path or 'PostgreSQL'} is of this version's schema")


async def _edgegap(settings: Settings, client: EdgegapClient) -> AsyncIterator[Finding]:
    answer = await client.apps()
    if answer.status in {401, FORBIDDEN}:
        mend = "Make a token under app.edgegap.com/user-settings?tab=tokens and set EDGEGAP_TOKEN"
        yield failed("Edgegap token", f"refused: {answer.message}", mend)
        return
    if not answer.ok or answer.body is None:
        yield failed("Edgegap", answer.message, "Check the network and EDGEGAP_BASE_URL")
        return
    names = names_of_apps(answer)
    yield passed("Edgegap token", f"accepted; it sees {_listed(names)}")
    for app in dict.fromkeys(rule.app for rule in settings.rules):
        yield await _app(client, app)
    for rule in settings.rules:
        yield await _source(client, rule)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return (", ".join(names[:MOST_NAMED]) or "no app") + more


def names_of_apps(answer: Answer) -> list[str]:
    """Return the names in a list of apps that Edgegap gave."""
    rows = answer.body.get("applications") if answer.body is not None else None
    rows = rows if isinstance(rows, list) else []
    return [str(row.get("name")) for row in rows if isinstance(row, dict)]


async def _app(client: EdgegapClient, app: str) -> Finding:
    answer = await client.app(app)
    if answer.ok:
        return passed(f"app {app}", "it exists")
    return failed(f"app {app}", *_unusable(answer))


def _unusable(answer: Answer) -> tuple[str, str]:
    """Return what was answered where an app cannot be looked at, and what to do."""
    if answer.status == NOT_FOUND:
        return "Edgegap has no such app", "Make it on Edgegap, or correct `app` in the rule"
    if answer.status == FORBIDDEN:
        mend = "Let the token's owner manage the app, or set EDGEGAP_TOKEN to a token that may"
        return f"the token may not touch it: {answer.message}", mend
    return detail_of(answer), "Try again later"


async def _source(client: EdgegapClient, rule: Rule) -> Finding:
    what = f"settings of {rule.name}"
    if {"req_cpu", "req_memory"} <= set(rule.settings):
        return passed(what, "req_cpu and req_memory stand in the rule")
    versions, calls = await client.versions(rule.app)
    source: Any = newest(versions)
    if rule.copy_from != "newest":
        source = next((one for one in versions if one.get("name") == rule.copy_from), None)
    if source is not None:
        return passed(what, f"copied from {source.get('name')}")
    if calls and not calls[-1].ok:
        return failed(what, *_unusable(calls[-1]))
    mend = "Add req_cpu and req_memory under [rule.settings], or make a first version by hand"
    return failed(what, "there is no version to copy", mend)


async def _public_url(settings: Settings, http: httpx.AsyncClient) -> AsyncIterator[Finding]:
    url = settings.public_url
    if url is None:
        mend = 'Write public_url = "https://hooks.example.com", where Docker Hub reaches us'
        yield failed("public URL", "it is not set", mend)
        return
    if not url.startswith("https://"):
        mend = "Put a proxy with TLS in front: the link is a secret"
        yield warned("public URL", "it is not https", mend)
    too_long = link_length_fault(settings)
    if too_long is not None:
        yield failed("public URL", *too_long)
    keys = LinkKeys([key.reveal() for key in settings.secret_keys], settings.links)
    yield await _reach(url, keys, http)


async def _reach(url: str, keys: LinkKeys, http: httpx.AsyncClient) -> Finding:
    """Fetch the greeting with a question that only a holder of our key can answer."""
    what, challenge = "public URL", keys.challenge(token_urlsafe(9))
    answer = await _answer(http.get(f"{url}{PATH}{challenge}", timeout=REACH_SECONDS))
    mend = "Start `receiver serve`, and check the name, the proxy and the port"
    if answer is None:
        return warned(what, "nothing answers there from this machine", mend)
    if answer.status_code != httpx.codes.OK or GREETING_WORD not in answer.text:
        return failed(what, f"what answers there is no receiver (HTTP {answer.status_code})", mend)
    answered, wanted = answer.headers.get(PROOF, ""), keys.proof(challenge) or ""
    if not hmac.compare_digest(answered.encode(), wanted.encode()):
        mend = "Set RECEIVER_SECRET_KEY as that receiver has it, or correct public_url"
        return failed(what, "another receiver answers there, with another key", mend)
    return passed(what, "this receiver answers there")


async def _clock(settings: Settings, http: httpx.AsyncClient) -> Finding:
    """Compare with Docker Hub's clock; our own public URL would be this very clock."""
    answer = await _answer(http.head(f"{settings.hub_api_url}/", timeout=REACH_SECONDS))
    there = _date(answer) if answer is not None else None
    if there is None:
        return warned("clock", "nobody told the time", "Compare this machine's clock by hand")
    off = abs(time.time() - there)
    if off > CLOCK_SECONDS:
        mend = "Set the clock by NTP: catch-up and the order of pushes go by it"
        return warned("clock", f"this machine's is {off:.0f} s off", mend)
    return passed("clock", "it agrees with the outside")


def _date(answer: httpx.Response) -> float | None:
    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None


async def _answer(asked: Awaitable[httpx.Response]) -> httpx.Response | None:
    try:
        return await asked
    except (httpx.HTTPError, httpx.InvalidURL):
        return None
