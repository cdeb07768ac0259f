"""What to do on each response of Edgegap: the table, as data, and the retry schedules.

The first row that matches decides. Every attempt begins with a GET, so the result of a POST that
may or may not have worked is checked before the POST is sent again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum

from receiver.backoff import LONGEST_BACKOFF, MINUTE, SECOND, SHORTEST_SLOWDOWN, WaitState, backoff
from receiver.edgegap.plans import Rejected
from receiver.edgegap.responses import Answer
from receiver.reasons import Reason, explain

GIVE_UP_AFTER = 24 * 60 * MINUTE
IMAGE_WAITS = tuple(seconds * SECOND for seconds in (2, 5, 15, 30, 60, 120))
IMAGE_WAITED_LONG = 10 * MINUTE
DECLINED_WAITS = tuple(seconds * SECOND for seconds in (5, 15, 30))
MOST_REFUSALS = 5
OTHER_RULES_FOR = 5 * MINUTE
OTHER_RULES_EVERY = 5 * SECOND  # at most: any replica may claim it, and no call is made


class Call(StrEnum):
    """The kind of call to Edgegap."""

    LOOK = "look"
    LIST = "list"
    CREATE = "create"
    UPDATE = "update"


class Then(Enum):
    """What to do next."""

    GO_ON = "go on"
    ABSENT = "there is no such version"
    TAKEN = "look who holds the name"
    RETRY = "try again, backing off, for 24 hours"
    WAIT_FOR_IMAGE = "try again for 10 minutes"
    TRY_THRICE = "try again three times within a minute"
    SLOW_DOWN = "all wait as long as it says"
    CLOSE_GATE = "all wait until the token is good"
    PARK = "park"


@dataclass(frozen=True, slots=True)
class Row:
    """One row: the action for these calls, statuses (None: any) and message.

    `most`: number of retries before the registration is parked.
    """

    then: Then
    reason: Reason | None = None
    calls: frozenset[Call] = frozenset(Call)
    statuses: frozenset[int] | range | None = None
    says: re.Pattern[str] | None = None
    most: int | None = None


READS = frozenset({Call.LOOK, Call.LIST})
WRITES = frozenset({Call.CREATE, Call.UPDATE})
CREATION = frozenset({Call.CREATE})
_TOUCHED = frozenset({Call.LIST, Call.CREATE})


def _row(
    calls: frozenset[Call],
    statuses: int | range | frozenset[int],
    then: Then,
    reason: Reason | None = None,
    says: str | None = None,
) -> Row:
    some = frozenset({statuses}) if isinstance(statuses, int) else statuses
    pattern = re.compile(says, re.IGNORECASE) if says else None
    return Row(then, reason, calls, some, pattern)


ANY = frozenset(Call)
_FULL = frozenset({400, 402, 403, 409, 422, 424})
_SAID = frozenset({400, 422, 424})  # Edgegap does not document which error gets which of these
LIMIT = (
    r"\bversions? (limit|quota)|\breached\b.{0,60}\blimit of \d+"
    r"|\blimit of \d+ ([a-z]+ )?versions?\b|\bmax(imum|\.)? number of ([a-z]+ )?versions\b"
    r"|\btoo many versions\b"
)
TAKEN = (
    r"already[ _-]?(been[ _])?(exist(s|ing)?|in use|used|taken)|exists already|name is taken"
    r"|duplicated? ([a-z]+ )?(name|version|key|entry)|with (this|that|the same|such a) name exists"
    r"|\bversion\b[^;]{0,70} ((is not|must be) unique|already registered)|unique constraint"
    r"|\bversion exists\b"
)
RATE = r"\brate limit|too ?many ?requests"  # Docker Hub's, of pulls
LOGIN = (
    r"\blog[ _-]?(ged )?in\b|credential|\buser ?name (or|and|/) ?password|\busername/password"
    r"|\bauthenticat(e|ion|ed)\b|unauthori[sz]ed|\baccess\b.{0,40}\bdenied\b"
)
PULL = (
    r"\bpull(ed|ing)?\b|\bno such (image|manifest|tag)\b|\bfind (the )?image\b"
    r"|\b(image|manifest|tag)\b[^;]{0,70}(\bnot found|\bnot exist|\bunknown)\b"
)
TABLE: tuple[Row, ...] = (
    _row(WRITES, _FULL, Then.PARK, Reason.VERSION_LIMIT, says=LIMIT),
    _row(ANY, 429, Then.SLOW_DOWN, Reason.EDGEGAP_BUSY),
    _row(ANY, 401, Then.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED),
    _row(ANY, 403, Then.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED),
    _row(ANY, 408, Then.RETRY, Reason.EDGEGAP_ERROR),
    _row(ANY, range(500, 600), Then.RETRY, Reason.EDGEGAP_ERROR),
    _row(frozenset({Call.LOOK}), 404, Then.ABSENT),
    _row(_TOUCHED, 404, Then.PARK, Reason.APP_MISSING),
    _row(frozenset({Call.UPDATE}), 404, Then.RETRY, Reason.EDGEGAP_ERROR),
    _row(CREATION, 409, Then.TAKEN),
    _row(CREATION, _SAID, Then.TAKEN, says=TAKEN),
    _row(WRITES, _SAID, Then.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY, says=RATE),
    _row(WRITES, _SAID, Then.PARK, Reason.REGISTRY_LOGIN_REFUSED, says=LOGIN),
    _row(WRITES, 424, Then.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY),
    _row(WRITES, _SAID, Then.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY, says=PULL),
    _row(READS, 400, Then.RETRY, Reason.EDGEGAP_ERROR),  # nothing in a GET could be corrected
    _row(ANY, range(200, 300), Then.RETRY, Reason.EDGEGAP_ERROR),
    Row(Then.PARK, Reason.REFUSED_BY_EDGEGAP),
)
FORBIDDEN = Row(Then.RETRY, Reason.FORBIDDEN_BY_EDGEGAP, most=MOST_REFUSALS)
"""A 403 while the token is accepted: Edgegap refuses only this call."""
_NO_ANSWER = Row(Then.RETRY, Reason.EDGEGAP_UNREACHABLE)
_FOREIGN = Row(Then.RETRY, Reason.NOT_EDGEGAP)
_DECLINED = Row(Then.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP)
_GO_ON = Row(Then.GO_ON)


@dataclass(frozen=True, slots=True)
class Wait:
    """Retry at `due_at` (epoch ms); `waited` is stored in the ledger until then."""

    reason: Reason
    sentence: str
    due_at: int
    waited: WaitState


def policy_for(call: Call, answer: Answer) -> Row:
    """Return the row of the table for this response to this call."""
    if answer.ok:
        return _GO_ON
    if answer.status is None:
        return _NO_ANSWER
    if answer.foreign:
        return _FOREIGN
    if answer.declined:
        return _DECLINED
    return next(row for row in TABLE if _fits(row, call, answer))


def resolve_forbidden(forbidden: Answer, probe: Answer) -> tuple[Row, Answer]:
    """Return the row and the response that apply to a 403, after a test of the token itself."""
    if probe.accepted:
        return FORBIDDEN, forbidden
    row = policy_for(Call.LIST, probe)
    known = row.then in {Then.CLOSE_GATE, Then.SLOW_DOWN, Then.RETRY}
    return row if known else Row(Then.RETRY, Reason.EDGEGAP_ERROR), probe


def summary_of(answer: Answer) -> str:
    """Return a short summary of the response: its status and message."""
    if answer.status is None:
        return answer.message
    status = f"HTTP {answer.status}"
    if answer.declined and answer.body is not None:
        success = answer.body.get("success", "missing")
        status += f", success: {str(success).lower()[:20]}"
    return status if answer.message in {"", status} else f"{status}: {answer.message}"


def wait_or_park(
    row: Row,
    *,
    waited: WaitState,
    detail: str,
    retry_after: int | None,
    facts: Mapping[str, object],
    now: int,
    jitter: float,
) -> Wait | Rejected:
    """Return the next wait of a row that retries, or park if it has lasted too long.

    `jitter` is a random number from 0 to 1; `facts` fill the sentences.
    """
    reason = row.reason or Reason.REFUSED_BY_EDGEGAP
    answer = {**facts, "detail": detail}
    if row.then is Then.PARK:
        return Rejected(reason, explain(reason, **answer))
    so_far = waited.so_far(reason, now)
    lasted = now - so_far.since
    given_up = now - so_far.first >= GIVE_UP_AFTER
    if row.then is Then.WAIT_FOR_IMAGE:
        if given_up or lasted >= IMAGE_WAITED_LONG:
            return _parked(Reason.IMAGE_NOT_PULLABLE, answer)
        delay = IMAGE_WAITS[min(so_far.times, len(IMAGE_WAITS) - 1)]
        delay = min(delay, so_far.since + IMAGE_WAITED_LONG - now)
    elif row.then is Then.TRY_THRICE:
        if so_far.times >= len(DECLINED_WAITS):
            return _parked(reason, answer)
        delay = DECLINED_WAITS[so_far.times]
    elif row.most is not None and so_far.times >= row.most:
        return _parked(reason, answer)
    elif row.then is Then.CLOSE_GATE:
        delay = 0  # the gate holds it, not the clock
    elif given_up:
        return _parked(Reason.GAVE_UP, answer)
    elif row.then is Then.SLOW_DOWN:
        delay = backoff(so_far.times, jitter) if retry_after is None else retry_after
        delay = max(SHORTEST_SLOWDOWN, delay)
    else:
        delay = max(backoff(so_far.times, jitter), retry_after or 0)
    return Wait(reason, explain(reason, **answer), now + delay, so_far.incremented())


def wait_at_most(
    reason: Reason,
    *,
    waited: WaitState,
    longest: int,
    sentence: str,
    now: int,
    jitter: float,
    lasted: int = 0,
    asked: int = 0,
    slowest: int = LONGEST_BACKOFF,
) -> Wait | None:
    """Return the next wait for a cause that delays at most `longest` ms in total; None after that.

    The cause has already `lasted` some of that time, and the service requested a wait of `asked`
    ms. Waits grow to `slowest` ms; waits that no longer grow vary by half.
    """
    so_far = waited.so_far(reason, now)
    left = longest - max(lasted, now - so_far.since)
    if left <= 0:
        return None
    grown = min(int(slowest * (1 + jitter) / 2), backoff(so_far.times, jitter))
    delay = min(left, max(SECOND, asked, grown))
    return Wait(reason, sentence, now + delay, so_far.incremented())


def _fits(row: Row, call: Call, answer: Answer) -> bool:
    return (
        call in row.calls
        and (row.statuses is None or answer.status in row.statuses)
        and (row.says is None or row.says.search(answer.message) is not None)
    )


def _parked(reason: Reason, answer: Mapping[str, object]) -> Rejected:
    return Rejected(reason, explain(reason, **answer))
