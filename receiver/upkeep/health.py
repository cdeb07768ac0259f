"""Health: all current problems, for the page, the API, `/readyz` and the metrics.

A condition describes a problem: its start, the number of registrations that it blocks, and the time
of the next attempt. Only a ledger that cannot be written prevents a push from being recorded.
"""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Annotated

import msgspec

from receiver.backoff import MINUTE
from receiver.config.settings import LiveSettings, Settings
from receiver.errors import LedgerError
from receiver.ledger.comparisons import Drifted, drifted
from receiver.ledger.cursors import Cursor, failing, read_cursors
from receiver.ledger.gates import ALL, BUSY, TOKEN, Gate, closed_gates, paused
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import DeadLink, dead_links, refused_links
from receiver.ledger.stats import Waiting, count_held, waiting_by_reason
from receiver.ledger.transaction import Tx, write_note
from receiver.ledger.views import RefusedLink, described
from receiver.pipeline.preflight import Outage, Preflight
from receiver.pipeline.worker import Worker
from receiver.reasons import Reason
from receiver.signing import LinkFault
from receiver.timestamps import Time, format_time

REMEMBERED_SECONDS = 5.0
TIMEOUT_SECONDS = 4.0
MAX_NAMED = 5
NO_SERVER_FOR = 15 * MINUTE  # a shorter wait for one is as usual
DAY = 24 * 60 * MINUTE
TRIED = "tried"  # the note that shows whether the ledger can be written


class Code(StrEnum):
    """The code of each problem, the most serious first."""

    clause: str  # what is wrong

    def __new__(cls, word: str, clause: str = "") -> "Code":
        """Return a member whose value is the word."""
        code = str.__new__(cls, word)
        code._value_, code.clause = word, clause
        return code

    LEDGER = "ledger", "The ledger cannot be written: pushes are not accepted"
    WORKER = "worker", "The worker is not running"
    TOKEN = TOKEN, "Edgegap refuses the API token"
    SECRET_KEY = "secret_key", "The secret key was replaced: links do not work"
    LINKS = "links", "Webhooks come with an invalid link and are refused"
    CONFIGURATION = "configuration", "The configuration was not reloaded"
    BUSY = BUSY, "Edgegap's rate limit is reached"
    EDGEGAP = "edgegap", "Edgegap is unavailable or returns errors"
    PULL_LIMIT = "pull_limit", "Docker Hub's pull limit is reached"
    DOCKER_HUB = "docker_hub", "Docker Hub is unavailable"
    CAPACITY = "capacity", "A trial waits for a server"
    CHANNELS = "channels", "A channel was changed outside the receiver"
    PAUSED = "paused", "Registrations are paused"
    CATCH_UP = "catch_up", "Catch-up is failing"


# Without a valid link, pushes are refused: they are not in the ledger until catch-up finds them.
MAY_LOSE = frozenset({Code.SECRET_KEY, Code.LINKS})


class Condition(msgspec.Struct, frozen=True):
    """A current problem."""

    code: Code
    message: Annotated[str, described("What is wrong, and what to do.")]
    since_at: Annotated[Time | None, described("Null if it is not known.")] = None
    held: Annotated[int, described("Number of registrations that wait because of the problem.")] = 0
    next_try_at: Time | None = None
    repository: Annotated[
        str | None, described("The repository that is paused (* for all), or of a refused link.")
    ] = None

    @property
    def may_lose(self) -> bool:
        """Whether pushes may be refused meanwhile."""
        return self.code in MAY_LOSE


class Health(msgspec.Struct, frozen=True):
    """Whether a push can be recorded now, and all problems, the most serious first."""

    ready: bool
    conditions: tuple[Condition, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """The ledger's data at one moment. `paused` and `held_by_pause` are by repository."""

    now: int
    gates: Sequence[Gate] = ()
    waiting: Sequence[Waiting] = ()
    held: int = 0
    paused: Mapping[str, Time] = msgspec.field(default_factory=dict)
    held_by_pause: Mapping[str, int] = msgspec.field(default_factory=dict)
    cursors: Sequence[Cursor] = ()
    dead_links: Sequence[DeadLink] = ()
    refused_links: Sequence[RefusedLink] = ()
    drifted: Sequence[Drifted] = ()


class HealthCheck:
    """Checks the parts of one receiver; the result of the write test is cached for five seconds."""

    def __init__(
        self, ledger: Ledger, current: LiveSettings, worker: Worker, preflight: Preflight
    ) -> None:
        self._ledger = ledger
        self._current = current
        self._worker = worker
        self._preflight = preflight
        self._noted: dict[Code, Condition] = {}
        self._tried_at: float | None = None
        self._failed = ""
        self._last: tuple[float, Health] | None = None
        self._one_at_a_time = asyncio.Lock()

    def note(self, condition: Condition) -> None:
        """Add a condition that the checks do not find, such as a refused reload."""
        self._noted[condition.code] = condition

    def clear(self, code: Code) -> None:
        """Remove the condition that `note` added."""
        self._noted.pop(code, None)

    async def now(self) -> Health:
        """Run the checks now."""
        async with self._one_at_a_time:
            return await self._look()

    async def cached(self) -> Health:
        """Return the result, cached for five seconds because the endpoint is public."""
        async with self._one_at_a_time:
            if self._last is None or time.monotonic() - self._last[0] >= REMEMBERED_SECONDS:
                return await self._look()
            return self._last[1]

    async def _look(self) -> Health:
        await self._try_to_write()
        settings = self._current.settings
        found = list(self._noted.values())
        failed = self._failed
        if not failed:
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    seen = await self._ledger.read(lambda tx: take_snapshot(tx, settings))
            except LedgerError as error:
                failed = str(error)
            except TimeoutError:
                failed = "the ledger did not answer in time"
            else:
                found += conditions_of(
                    seen,
                    settings,
                    worker_alive=self._worker.alive,
                    outage=self._preflight.outage,
                )
        if failed:
            found.append(Condition(Code.LEDGER, failed))
        order = list(Code)
        found.sort(key=lambda one: order.index(one.code))
        health = Health(not self._failed, tuple(found))
        self._last = time.monotonic(), health
        return health

    async def _try_to_write(self) -> None:
        now = time.monotonic()
        if self._tried_at is not None and now - self._tried_at < REMEMBERED_SECONDS:
            return
        self._tried_at = now
        self._failed = ""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await self._ledger.write(_try)
        except LedgerError as error:
            self._failed = str(error)
        except TimeoutError:
            self._failed = "the ledger did not answer in time"


def _try(tx: Tx) -> None:
    write_note(tx, TRIED, str(tx.now))
    tx.quiet = True


def take_snapshot(tx: Tx, settings: Settings) -> Snapshot:
    """Read the ledger's data; blocked registrations are counted only if something blocks them."""
    gates, pauses = closed_gates(tx), paused(tx)
    repositories = sorted({rule.repository for rule in settings.rules})
    cursors = [one for one in read_cursors(tx) if one.repository in repositories]
    return Snapshot(
        now=tx.now,
        gates=gates,
        waiting=waiting_by_reason(tx),
        held=count_held(tx),
        paused=pauses,
        held_by_pause={name: count_held(tx, None if name == ALL else name) for name in pauses},
        cursors=cursors if settings.catch_up_every is not None else [],
        dead_links=dead_links(tx, repositories),
        refused_links=[one for one in refused_links(tx) if counts(one, repositories, tx.now)],
        drifted=drifted(tx, settings.channels()),
    )


def conditions_of(
    seen: Snapshot, settings: Settings, *, worker_alive: bool, outage: Outage | None
) -> Iterator[Condition]:
    """Yield the current problems."""
    if not worker_alive:
        message = "The worker does not run: pushes are recorded and wait. Restart the receiver."
        yield Condition(Code.WORKER, message, held=seen.held)
    for gate in seen.gates:
        until = Time(gate.until)
        yield Condition(Code(gate.name), gate.sentence, Time(gate.since), seen.held, until)
    if seen.dead_links:
        since = max((one.since for one in seen.dead_links if one.since), default=None)
        yield Condition(Code.SECRET_KEY, _of_keys(seen, since), _time(since))
    replaced = {one.repository for one in seen.dead_links}
    for link in seen.refused_links:
        if link.reason is not LinkFault.SIGNATURE or link.repository not in replaced:
            yield Condition(
                Code.LINKS, _of_requests(link), link.first_at, repository=link.repository
            )
    yield from _waiting(seen, outage)
    for one in seen.drifted:
        yield Condition(Code.CHANNELS, one.sentence, one.since_at)
    for repository, since in seen.paused.items():
        named = "--all" if repository == ALL else repository
        what = "Everything is" if repository == ALL else f"{repository} is"
        message = f"{what} paused: pushes are recorded and wait for `receiver resume {named}`."
        held = seen.held_by_pause[repository]
        yield Condition(Code.PAUSED, message, since, held, repository=repository)
    yield from _catch_up(seen, settings)


def counts(link: RefusedLink, repositories: Collection[str], now: int) -> bool:
    """Return whether refused requests are a problem: the link is one of a rule's repository.

    Anyone may send the others. No push shows that a link was taken out of another repository.
    """
    if not link.actionable or link.repository not in repositories:
        return False
    return link.reason is not LinkFault.OTHER_REPOSITORY or now - link.last_at < DAY


def _of_requests(link: RefusedLink) -> str:
    many = "1 request" if link.requests == 1 else f"{link.requests} requests"
    last = format_time(link.last_at)[:19]
    named = f"{many} with an invalid link of {link.repository}, the last at {last} UTC."
    return f"{named} {link.message}"


def _of_keys(seen: Snapshot, since: int | None) -> str:
    names = [one.repository for one in seen.dead_links]
    return (
        f"RECEIVER_SECRET_KEY was replaced at {format_time(since or 0)}: the links that were used "
        "before, "
        f"of {_listed(names)}, do not work. Set the key back (as `NEW,OLD` to change it in "
        f"steps), or paste what `receiver link {names[0]}` prints into the repository's Webhooks "
        "tab on Docker Hub."
    )


def _waiting(seen: Snapshot, outage: Outage | None) -> Iterator[Condition]:
    edgegap = [
        one
        for one in seen.waiting
        if one.reason in {Reason.EDGEGAP_UNREACHABLE, Reason.EDGEGAP_ERROR}
    ]
    if edgegap:
        message = (
            "Edgegap cannot be reached, or answers with errors of its own. What waits is tried "
            "again by itself; `receiver show ID` says what was answered."
        )
        yield _together(Code.EDGEGAP, message, edgegap, None)
    hub = [one for one in seen.waiting if one.reason == Reason.DOCKER_HUB_UNAVAILABLE]
    if hub or outage is not None:
        code, why, more = Code.DOCKER_HUB, "", ""
        if outage is not None:
            why = f" ({outage.detail})"
            if outage.pull_limit:
                code = Code.PULL_LIMIT
                more = (
                    " Edgegap's own pulls have the same kind of limit; a paid Docker Hub plan "
                    "removes it."
                )
        message = (
            f"Docker Hub could not be queried{why}. The image checks are retried for 5 minutes; "
            f"then versions are created without them.{more}"
        )
        yield _together(code, message, hub, None if outage is None else outage.since)

    trials = [one for one in seen.waiting if one.reason == Reason.NO_CAPACITY]
    if any(seen.now - one.since >= NO_SERVER_FOR for one in trials):
        message = (
            "Edgegap has no server for a trial, and its channels wait for it. A free plan runs one "
            "deployment at a time: stop another, or name another place in `at` of [rule.trial] and "
            "reload."
        )
        yield _together(Code.CAPACITY, message, trials, None)


def _together(code: Code, message: str, waiting: Sequence[Waiting], since: int | None) -> Condition:
    return Condition(
        code,
        message,
        _time(min((one.since for one in waiting), default=since) if since is None else since),
        sum(one.held for one in waiting),
        _time(min((at for one in waiting if (at := one.next_try) is not None), default=None)),
    )


def _catch_up(seen: Snapshot, settings: Settings) -> Iterator[Condition]:
    found = failing(seen.cursors, {one.repository for one in seen.cursors})
    if found is None:
        return
    every = settings.catch_up_every or 0
    next_try = min((one.ran_at or seen.now) + every for one in seen.cursors if one.problem)
    since = Time(found.since)
    yield Condition(Code.CATCH_UP, found.sentence, since, next_try_at=Time(next_try))


def _time(milliseconds: int | None) -> Time | None:
    return None if milliseconds is None else Time(milliseconds)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
