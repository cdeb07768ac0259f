"""Doctor: checks the setup for problems; each problem comes with a fix.

The checks send no writes. `serve` logs the hazards of this machine at start.
"""

import asyncio
import hmac
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import urlsplit

import httpx
import msgspec

from receiver.config.settings import Settings, link_length_fault
from receiver.doctor.dockerhub import examine_docker_hub, examine_webhooks
from receiver.doctor.finding import Finding, failed, passed, warned
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.deployment_answers import Read
from receiver.edgegap.fields import flag
from receiver.edgegap.listing import Listing, partly_listed
from receiver.edgegap.plans import newest
from receiver.edgegap.pull_profiles import PullProfiles, pull_profiles
from receiver.edgegap.responses import Answer
from receiver.edgegap.version_cache import NEWEST
from receiver.errors import Fault, LedgerError, NoLedger
from receiver.http.client import UnreadableBody, ask
from receiver.http.variables import outgoing_proxies
from receiver.ledger.engine import sqlite_path
from receiver.ledger.files import read_mounts
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import (
    DeadLink,
    Fingerprints,
    KnownKey,
    dead_links,
    known_keys,
    refused_links,
)
from receiver.ledger.migrate import newer_schema
from receiver.ledger.mounts import (
    CONTAINER_MARKS,
    ephemeral_disk_warning,
    in_container,
    unreachable,
    unsafe_disk,
)
from receiver.ledger.targets import not_copied
from receiver.ledger.transaction import Tx
from receiver.ledger.views import RefusedLink
from receiver.pipeline.preflight import Preflight
from receiver.pipeline.retry import summary_of
from receiver.rules.rule import Rule, moving_versions
from receiver.signing import PATH, LinkSigner
from receiver.timestamps import duration
from receiver.upkeep.clock import ask_time, difference, seconds_ahead
from receiver.upkeep.links import fingerprints_of

DIRECTLY = "directly"
REACH_SECONDS = 10.0
MAX_GREETING_BYTES = 64 * 1024
GREETING_WORD = "Docker Hub"
PROOF = "Receiver-Proof"
MAX_NAMED = 10
CHECK_THE_WAY = "Check the network, EDGEGAP_BASE_URL, and any proxy or firewall in between"
KEY, LINKS = "secret key", "links"
SET_BACK = (
    "Set RECEIVER_SECRET_KEY back (as `NEW,OLD` to change it in steps), or paste new links into "
    "Docker Hub: `receiver link`"
)


class Hazard(msgspec.Struct, frozen=True):
    """A problem: the log event, the subject of the check, and a sentence with the fix."""

    event: str
    what: str
    sentence: str


def hazards(settings: Settings, environ: Mapping[str, str]) -> Iterator[Hazard]:
    """Yield the problems of the ledger's disk and of the address to listen on."""
    path = sqlite_path(settings.database_url)
    file = None if path is None else os.path.realpath(path)
    mounts = _mounts_of(file)
    forgotten = ephemeral_disk_warning(environ, file, mounts)
    if forgotten is not None:
        yield Hazard("ledger_on_ephemeral_disk", "ledger's disk", forgotten)
    unsafe = unsafe_disk(file, mounts)
    if unsafe is not None:
        yield Hazard("ledger_on_unsafe_disk", "ledger's disk", unsafe)
    marks = [mark for mark in CONTAINER_MARKS if Path(mark).exists()]
    contained = in_container(environ, marks, mounts)
    alone = unreachable(settings.host, environ, contained=contained)
    if alone is not None:
        yield Hazard("address_not_reachable", "address", alone)


def proxies_in_use(settings: Settings, environ: Mapping[str, str]) -> dict[str, list[str]]:
    """Return the hosts that are called, by the proxy used for them; empty without a proxy."""
    proxies, _ = outgoing_proxies(environ)
    if proxies.http is None and proxies.https is None:
        return {}
    found: dict[str, list[str]] = {}
    for url in (settings.edgegap_base_url, settings.registry_url, settings.registry_auth_url,
                settings.hub_api_url, settings.public_url):  # fmt: skip
        parts = urlsplit(url or "")
        if parts.hostname:
            proxy = proxies.proxy_for(parts.scheme, parts.hostname, parts.port)
            through = DIRECTLY if proxy is None else f"through {proxy.variable} ({proxy})"
            found.setdefault(through, []).append(parts.hostname)
    return found


def _mounts_of(file: str | None) -> str:
    """Return the mounts, including the file's own: an automount starts at the first access."""
    if file is not None:
        Path(file).parent.exists()
    return read_mounts()


async def examine(
    settings: Settings, client: EdgegapClient, preflight: Preflight, http: httpx.AsyncClient
) -> AsyncIterator[Finding]:
    """Run all checks and yield their findings; the cheapest checks run first."""
    for finding in _ledger(settings):
        yield finding
    async for finding in examine_links(settings):
        yield finding
    if settings.admin_password is None:
        how = "set RECEIVER_ADMIN_PASSWORD in .env and run `receiver reload`, or restart"
        yield passed("page", f"it is off: {how}, to turn it on")
    used = proxies_in_use(settings, os.environ)
    if used:
        ways = (f"{', '.join(dict.fromkeys(names))} {way}" for way, names in used.items())
        yield passed("proxy", "; ".join(ways))
    async for finding in _edgegap(settings, client):
        yield finding
    async for finding in examine_docker_hub(settings.rules, preflight):
        yield finding
    async for finding in examine_webhooks(settings, preflight.hub):
        yield finding
    async for finding in _public_url(settings, http):
        yield finding
    yield await _clock(settings, http)


def _ledger(settings: Settings) -> Iterator[Finding]:
    with closing(Ledger(settings.database_url)) as ledger:
        yield _schema(ledger)
    for danger in hazards(settings, os.environ):
        yield warned(danger.what, danger.sentence, "deploy/README.md says what each place needs")


def _schema(ledger: Ledger) -> Finding:
    try:
        ledger.open_readonly()
    except NoLedger:
        return passed("ledger", f"{ledger.path} will be made by `receiver serve`")
    except LedgerError as error:
        hint = "Do what it says, or check DATABASE_URL and who may write there"
        return failed("ledger", str(error), hint)
    newer = newer_schema(ledger.schema)
    if newer is not None:
        return warned("ledger", newer, "Upgrade this program to the version that wrote it")
    return passed("ledger", f"{ledger.path or 'PostgreSQL'} is of this version's schema")


async def _edgegap(settings: Settings, client: EdgegapClient) -> AsyncIterator[Finding]:
    listing = await client.apps()
    answer = listing.answer
    if answer.says(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        hint = "Make a token under app.edgegap.com/user-settings?tab=tokens and set EDGEGAP_TOKEN"
        yield failed("Edgegap token", f"refused: {answer.message}", hint)
        return
    if not answer.accepted:
        yield failed("Edgegap", summary_of(answer), CHECK_THE_WAY)
        return
    seen = f"it sees {_listed(listing)}" if answer.ok else f"but the list of apps: {answer.message}"
    yield passed("Edgegap token", f"accepted; {seen}")
    for app in dict.fromkeys(rule.app for rule in settings.rules):
        yield await _app(client, app)
    listings: dict[str, Listing] = {}
    for rule in settings.rules:
        excluded = await _not_copied(settings, rule.app)
        yield await _source(client, rule, excluded, listings)
    if any(rule.pull_profiles for rule in settings.rules):
        read = await pull_profiles(client)
        for rule in settings.rules:
            if rule.pull_profiles:
                yield _pull_profiles(rule, read)


def _listed(listing: Listing) -> str:
    names = [str(row["name"]) for row in listing.rows[:MAX_NAMED]]
    left = listing.total - len(names)
    more = f" and {left} more" if left else "" if listing.complete else " and more"
    return (", ".join(names) or "no app") + more


async def _app(client: EdgegapClient, app: str) -> Finding:
    answer = await client.app(app)
    what = f"app {app}"
    if not answer.accepted:
        return failed(what, *_unusable(answer))
    if answer.body is None:
        return warned(what, f"it exists, but {answer.message}", "Give the app a smaller image")
    active = flag(answer.body.get("is_active"))
    if active is False:
        found = "it is disabled: no version of it can be deployed"
        return warned(what, found, "Enable the app in Edgegap's dashboard")
    if not isinstance(active, bool | None):
        found = "it exists, but whether it is enabled cannot be read"
        return warned(what, found, "Look at the app in Edgegap's dashboard")
    return passed(what, "it exists")


def _unusable(answer: Answer) -> Fault:
    """Return why an app or its versions cannot be read, and the fix."""
    if answer.says(HTTPStatus.NOT_FOUND):
        return Fault("Edgegap has no such app", "Make it on Edgegap, or correct `app` in the rule")
    if answer.says(HTTPStatus.FORBIDDEN):
        hint = "Let the token's owner manage the app, or set EDGEGAP_TOKEN to a token that may"
        return Fault(f"the token has no access to it: {answer.message}", hint)
    return Fault(summary_of(answer), CHECK_THE_WAY if answer.foreign else "Try again later")


async def _not_copied(settings: Settings, app: str) -> frozenset[str]:
    """Return the versions that a push does not copy from: channels, including earlier rules'."""
    moving = moving_versions(settings.rules, app)
    try:
        with closing(Ledger(settings.database_url)) as ledger:
            ledger.open_readonly()
            known = await ledger.read(partial(not_copied, app=app))
    except LedgerError:  # no ledger yet, or the ledger's own finding reports the error
        return moving
    return moving | known.channels | known.unproven


async def _source(
    client: EdgegapClient, rule: Rule, excluded: frozenset[str], listings: dict[str, Listing]
) -> Finding:
    """Find the version whose settings the rule copies; each app is listed once."""
    what = f"settings of {rule.name}"
    if {"req_cpu", "req_memory"} <= set(rule.settings):
        return passed(what, "req_cpu and req_memory are set in the rule")
    if rule.copy_from != NEWEST:
        answer = await client.get_version(rule.app, rule.copy_from)
        source, found = answer.body if answer.ok else None, ""
    else:
        if rule.app not in listings:
            listings[rule.app] = await client.versions(rule.app)
        listing = listings[rule.app]
        answer = listing.answer
        source = newest(row for row in listing.rows if row.get("name") not in excluded)
        found = "" if listing.complete else f"; {partly_listed(listing)}"
    if source is not None:
        return passed(what, f"copied from {source.get('name')}{found}")
    if rule.copy_from != NEWEST and answer.says(HTTPStatus.NOT_FOUND):
        found = f"the app {rule.app} has no version {rule.copy_from}"
        return failed(what, found, "Name another version in `copy_from`, or create it")
    if not answer.ok:
        return failed(what, *_unusable(answer))
    hint = "Add req_cpu and req_memory under [rule.settings], or make a first version by hand"
    return failed(what, "there is no version to copy", hint)


def _pull_profiles(rule: Rule, read: Read[PullProfiles]) -> Finding:
    """Find the pull profiles that the rule links to its versions."""
    what = f"pull profiles of {rule.name}"
    if read.value is None:
        return warned(what, summary_of(read.answer), "Try again later")
    known = {str(profile) for profile in read.value.profiles}
    missing = [name for name in rule.pull_profiles if name not in known]
    if not missing:
        return passed(what, f"{', '.join(rule.pull_profiles)} exist at Edgegap")
    found = f"Edgegap does not have {', '.join(missing)}; it has {read.value}"
    hint = "Correct `pull_profiles` in the rule, or create the profile in Edgegap's dashboard"
    return (failed if read.value.complete else warned)(what, found, hint)


async def _public_url(settings: Settings, http: httpx.AsyncClient) -> AsyncIterator[Finding]:
    url = settings.public_url
    if url is None:
        hint = 'Write public_url = "https://hooks.example.com", where Docker Hub reaches us'
        yield failed("public URL", "it is not set", hint)
        return
    if urlsplit(url).scheme != "https":
        hint = "Put a proxy with TLS in front: the link is a secret"
        yield warned("public URL", "it is not https", hint)
    too_long = link_length_fault(settings)
    if too_long is not None:
        yield failed("public URL", *too_long)
    yield await _reach(url, settings.link_signer(), http)


async def _reach(url: str, keys: LinkSigner, http: httpx.AsyncClient) -> Finding:
    """Request the greeting with a challenge that only a receiver with our key can answer."""
    what, challenge = "public URL", keys.challenge(token_urlsafe(9))
    hint = "Start `receiver serve`, and check the name, the proxy and the port"
    try:
        answer, body = await ask(
            http,
            "GET",
            f"{url}{PATH}{challenge}",
            largest=MAX_GREETING_BYTES,
            seconds=REACH_SECONDS,
        )
    except UnreadableBody:
        answer, body = httpx.Response(httpx.codes.BAD_GATEWAY), b""
    except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
        return warned(what, "nothing answers there from this machine", hint)
    if answer.status_code != httpx.codes.OK or GREETING_WORD not in body.decode("utf-8", "replace"):
        return failed(what, f"what answers there is no receiver (HTTP {answer.status_code})", hint)
    answered, wanted = answer.headers.get(PROOF, ""), keys.proof(challenge) or ""
    if not hmac.compare_digest(answered.encode(), wanted.encode()):
        hint = "Set RECEIVER_SECRET_KEY as that receiver has it, or correct public_url"
        return failed(what, "another receiver answers there, with another key", hint)
    return passed(what, "this receiver answers there")


async def _clock(settings: Settings, http: httpx.AsyncClient) -> Finding:
    """Compare with Docker Hub's clock; our public URL would report this machine's clock."""
    ahead = seconds_ahead(await ask_time(http, settings.hub_api_url), time.time())
    if ahead is None:
        return warned(
            "clock", "no server reported its time", "Compare this machine's clock by hand"
        )
    wrong = difference(ahead)
    if wrong is not None:
        hint = "Set the clock by NTP: catch-up and the order of pushes go by it"
        return warned("clock", wrong, hint)
    return passed("clock", "it matches Docker Hub's clock")


async def examine_links(settings: Settings) -> AsyncIterator[Finding]:
    """Check the key, and the requests with a refused link in the last week."""
    repositories = sorted({rule.repository for rule in settings.rules})

    def read(tx: Tx) -> tuple[int, list[DeadLink], list[RefusedLink]]:
        return tx.now, dead_links(tx, repositories, keys), refused_links(tx)

    try:
        with closing(Ledger(settings.database_url)) as ledger:
            ledger.open_readonly()
            known = await ledger.read(known_keys)
            salts = {one.salt for one in known}
            keys = await asyncio.to_thread(fingerprints_of, settings.secret_keys, salts)
            now, dead, refused = await ledger.read(read)
    except LedgerError:
        return  # no ledger yet, or the ledger's own finding reports the error
    yield _key(known, keys, dead)
    for finding in _refused(refused, now):
        yield finding


def _key(
    known: Sequence[KnownKey], keys: Sequence[Fingerprints], dead: Sequence[DeadLink]
) -> Finding:
    in_use = [one for one in known if one.replaced_at is None]
    if in_use and not any(one.is_one_of(keys) for one in in_use):
        found = "none of its keys is one that the receiver last ran with: existing links are dead"
        return warned(KEY, found, SET_BACK)
    if dead:
        named = ", ".join(one.repository for one in dead)
        return warned(KEY, f"the key that these links were used with is gone: {named}", SET_BACK)
    return passed(KEY, "the ledger knows it" if known else "no receiver has run with it yet")


def _refused(refused: Sequence[RefusedLink], now: int) -> list[Finding]:
    if not refused:
        return [passed(LINKS, "no request with an invalid link in the last 7 days")]
    return [
        warned(LINKS, _found(one, now), one.message)
        if one.actionable
        else passed(LINKS, f"{_found(one, now)}; harmless if nobody pasted a link lately")
        for one in refused
    ]


def _found(one: RefusedLink, now: int) -> str:
    many = "1 request" if one.requests == 1 else f"{one.requests} requests"
    of = f" of {one.repository}" if one.repository else ""
    ago = duration(max(0, now - one.last_at))
    return f"{many} with an invalid link{of} ({one.reason}), last {ago} ago"
