"""Doctor: finds what will go wrong before it does; each finding comes with its mend.

Everything is asked with reads only; the one question that asks for more (may the Docker Hub login
push?) is asked here once, never per push.
"""

import hmac
import os
import time
from collections.abc import AsyncIterator, Awaitable
from email.utils import parsedate_to_datetime
from secrets import token_urlsafe
from typing import Any

import httpx

from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import HubRefused, HubTag
from receiver.dockerhub.pull_limits import Pulls
from receiver.dockerhub.push import Push, not_for_registering
from receiver.edgegap.answers import Answer
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.versions import newest
from receiver.errors import LedgerError
from receiver.findings import Finding, failed, passed, warned
from receiver.hook_tokens import MAX_URL, PATH, LinkKeys
from receiver.images import ImageReference
from receiver.ledger.ledger import Ledger
from receiver.preflight import Cleared, Out, Preflight, Stopped
from receiver.rules import Login, Rule
from receiver.settings import Settings

PERSONAL_LIMIT, ANONYMOUS_LIMIT = 200, 100  # per 6 hours: docs.docker.com/docker-hub/usage/pulls
CLOCK_SECONDS = 60.0
REACH_SECONDS = 10.0
GREETING_WORD = "Docker Hub"
PROOF = "Receiver-Proof"
NOT_FOUND = 404
MOST_PAGES = 10  # of a repository's tags


async def examine(
    settings: Settings, client: EdgegapClient, preflight: Preflight, http: httpx.AsyncClient
) -> AsyncIterator[Finding]:
    """Look at everything, one finding after another, the cheap ones first."""
    yield _ledger(settings)
    async for finding in _edgegap(settings, client):
        yield finding
    async for finding in _docker_hub(settings, preflight):
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
        mend = "Check DATABASE_URL and who may write there"
        return failed("ledger", str(error), mend)
    finally:
        ledger.close()
    return passed("ledger", f"{ledger.path or 'PostgreSQL'} is of this version's schema")


async def _edgegap(settings: Settings, client: EdgegapClient) -> AsyncIterator[Finding]:
    answer = await client.apps()
    if answer.status in {401, 403}:
        mend = "Make a token under app.edgegap.com/user-settings?tab=tokens and set EDGEGAP_TOKEN"
        yield failed("Edgegap token", f"refused: {answer.message}", mend)
        return
    if not answer.ok or answer.body is None:
        yield failed("Edgegap", answer.message, "Check the network and EDGEGAP_BASE_URL")
        return
    names = names_of_apps(answer)
    yield passed("Edgegap token", f"accepted; it sees {', '.join(names[:10]) or 'no app'}")
    for app in dict.fromkeys(rule.app for rule in settings.rules):
        yield await _app(client, app)
    for rule in settings.rules:
        yield await _source(client, rule)


def names_of_apps(answer: Answer) -> list[str]:
    """Return the names in a list of apps that Edgegap gave."""
    rows = answer.body.get("applications") if answer.body is not None else None
    rows = rows if isinstance(rows, list) else []
    return [str(row.get("name")) for row in rows if isinstance(row, dict)]


async def _app(client: EdgegapClient, app: str) -> Finding:
    answer = await client.app(app)
    if answer.ok:
        return passed(f"app {app}", "it exists")
    if answer.status == NOT_FOUND:
        mend = "Make it on Edgegap, or correct `app` in the rule"
        return failed(f"app {app}", "Edgegap has no such app", mend)
    status = "" if answer.status is None else f"HTTP {answer.status} "
    return failed(f"app {app}", f"{status}{answer.message}", "Try again later")


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
    missing = calls[-1].message if calls and not calls[-1].ok else "there is no version to copy"
    mend = "Add req_cpu and req_memory under [rule.settings], or make a first version by hand"
    return failed(what, missing, mend)


async def _docker_hub(settings: Settings, preflight: Preflight) -> AsyncIterator[Finding]:
    logins: dict[Login, str] = {}
    for rule in settings.rules:
        if rule.login is not None:
            logins.setdefault(rule.login, rule.repository)
    if not logins:
        mend = "For private repositories set DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
        yield warned("Docker Hub login", "none: public repositories only", mend)
    for login, repository in logins.items():
        yield await _login(preflight, login, repository)
    asked = {(rule.repository, rule.tags, rule.login): rule for rule in settings.rules}
    for rule in asked.values():
        async for finding in _repository(preflight, rule):
            yield finding
    for asking, pulls in preflight.registry.limits.by_login.items():
        yield _pull_limit(asking, pulls)


async def _login(preflight: Preflight, login: Login, repository: str) -> Finding:
    what = f"Docker Hub login {login.username}"
    try:
        may_push = await preflight.registry.may_push(repository, login)
    except Unavailable as error:
        return warned(what, f"Docker Hub could not be asked: {error}", "Try again later")
    if may_push is None:
        mend = f"Check {login.variables}: make a read-only access token on Docker Hub and set it"
        return failed(what, "refused", mend)
    if may_push:
        mend = "Make a read-only access token: Edgegap keeps it, and needs no more"
        return warned(what, "accepted, but it may push", mend)
    return passed(what, "accepted, and read-only")


async def _repository(preflight: Preflight, rule: Rule) -> AsyncIterator[Finding]:
    what = f"repository {rule.repository}"
    try:
        tag = await _newest_tag(preflight, rule)
    except HubRefused as refused:
        yield failed(what, str(refused), _mend_of(refused, rule))
        return
    except Unavailable as error:
        mend = "Run `receiver doctor` again in some minutes"
        yield warned(what, f"Docker Hub could not be asked now: {error}", mend)
        return
    if tag is None:
        yield warned(what, "reached; it has no tag that the rule takes yet", "Push one")
        return
    yield passed(what, f"reached; the newest tag that the rule takes is {tag}")
    findings = await preflight.look(ImageReference(rule.repository, tag), rule)
    image = f"image {rule.repository}:{tag}"
    match findings:
        case Cleared():
            yield passed(image, "; ".join(findings.notes))
        case Stopped():
            yield failed(image, findings.parking.reason.value, findings.parking.sentence)
        case Out():
            yield warned(image, findings.detail, "Try again later")
        case _:
            yield failed(image, "the registry has no such tag", "Push it again")


def _mend_of(refused: HubRefused, rule: Rule) -> str:
    if refused.status == NOT_FOUND:
        may = "that its login may read it" if rule.login else "give it a login if it is private"
        return f"Check the name in the rule, and {may}"
    if rule.login is None:
        return "Give the rule a login that may read it: DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
    return f"Check {rule.login.variables}: the token must be valid, and may read the repository"


async def _newest_tag(preflight: Preflight, rule: Rule) -> str | None:
    """Return the newest tag that the rule takes; which way Docker Hub sorts is not relied upon."""
    newest: HubTag | None = None
    pages = 0
    async for page in preflight.hub.pages(rule.repository, rule.login):
        taken = [tag for tag in page.tags if _takes(rule, tag)]
        newest = max([*([newest] if newest else []), *taken], key=_pushed_at, default=None)
        times = [_pushed_at(tag) for tag in page.tags]
        pages += 1
        if pages == MOST_PAGES or (newest is not None and times == sorted(times, reverse=True)):
            break
    return None if newest is None else newest.tag


def _takes(rule: Rule, tag: HubTag) -> bool:
    push = Push(rule.repository, tag.tag, media_type=tag.media_type)
    return not_for_registering(push) is None and rule.tags.takes(tag.tag)


def _pushed_at(tag: HubTag) -> int:
    return tag.pushed_at or 0


def _pull_limit(login: Login | None, pulls: Pulls) -> Finding:
    limit, whose = pulls.limit, "without a login" if login is None else f"of {login.username}"
    what = f"Docker Hub pull limit {whose}"
    mend = "Edgegap's own pulls meet the same kind of limit: a paid Docker Hub plan lifts it"
    if pulls.met:
        return warned(what, "used up: Docker Hub answers 429", mend)
    if limit is None:
        return passed(what, "none told: a paid plan, or no image was seen")
    plan = {ANONYMOUS_LIMIT: "no login", PERSONAL_LIMIT: "a Personal account"}
    hours = limit.window_seconds / 3600
    found = f"{limit.remaining} of {limit.limit} left in {hours:g} h"
    return warned(what, f"{found} ({plan.get(limit.limit, 'a limited plan')})", mend)


async def _public_url(settings: Settings, http: httpx.AsyncClient) -> AsyncIterator[Finding]:
    url = settings.public_url
    if url is None:
        mend = 'Write public_url = "https://hooks.example.com", where Docker Hub reaches us'
        yield failed("public URL", "it is not set", mend)
        return
    if not url.startswith("https://"):
        mend = "Put a proxy with TLS in front: the link is a secret"
        yield warned("public URL", "it is not https", mend)
    keys = LinkKeys([key.reveal() for key in settings.secret_keys], settings.links)
    longest = max((len(keys.link(url, rule.repository)) for rule in settings.rules), default=0)
    if longest > MAX_URL:
        mend = f"Shorten public_url: Docker Hub takes {MAX_URL} characters"
        yield failed("public URL", f"a link would be {longest} characters long", mend)
    yield await _reach(url, keys, http)


async def _reach(url: str, keys: LinkKeys, http: httpx.AsyncClient) -> Finding:
    """Fetch the greeting under a nonce, which only a holder of our key can answer for."""
    what, nonce = "public URL", token_urlsafe(9)
    answer = await _answer(http.get(f"{url}{PATH}{nonce}", timeout=REACH_SECONDS))
    mend = "Start `receiver serve`, and check the name, the proxy and the port"
    if answer is None:
        return warned(what, "nothing answers there from this machine", mend)
    if answer.status_code != httpx.codes.OK or GREETING_WORD not in answer.text:
        return failed(what, f"what answers there is no receiver (HTTP {answer.status_code})", mend)
    if not hmac.compare_digest(answer.headers.get(PROOF, ""), keys.proof(nonce)):
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
