"""What to do on each response of Edgegap: the table, as data, and the retry schedules.

The first row that matches decides. Every attempt begins with a GET, so the result of a POST that
may or may not have worked is checked before the POST is sent again.
"""

from collections.abc import Mapping
from enum import Enum, StrEnum

import msgspec
from msgspec.structs import replace

from receiver.backoff import MAX_BACKOFF, MIN_SLOWDOWN, MINUTE, SECOND, WaitState, backoff
from receiver.edgegap.responses import Answer, Row, message_pattern
from receiver.ledger.claims import Claimed
from receiver.ledger.results import Result
from receiver.reasons import Reason, State, explain

GIVE_UP_AFTER = 24 * 60 * MINUTE
IMAGE_WAITS = tuple(seconds * SECOND for seconds in (2, 5, 15, 30, 60, 120))
IMAGE_WAITED_LONG = 10 * MINUTE
DECLINED_WAITS = tuple(seconds * SECOND for seconds in (5, 15, 30))
MAX_REFUSALS = 5
OF_OTHER_RULES = frozenset({Reason.RULE_GONE, Reason.RULE_CHANGED, Reason.TRIAL_GONE})
OTHER_RULES_FOR = 5 * MINUTE
OTHER_RULES_EVERY = 5 * SECOND  # at most: any replica may claim it, and no call is made


class Operation(StrEnum):
    """The kind of call to Edgegap."""

    LOOK = "look"
    LIST = "list"
    CREATE = "create"
    UPDATE = "update"
    LINK = "link"


class Action(Enum):
    """What to do next."""

    GO_ON = "go on"
    ABSENT = "there is no such version"
    TAKEN = "read the version that has the name"
    RETRY = "try again, backing off, for 24 hours"
    WAIT_FOR_SERVER = "try again, backing off, until there is one"
    WAIT_FOR_IMAGE = "try again for 10 minutes"
    TRY_THRICE = "try again three times within a minute"
    SLOW_DOWN = "all wait as long as it says"
    CLOSE_GATE = "all wait until the token is good"
    PARK = "park"


class Policy(msgspec.Struct, frozen=True):
    """What to do after a response, and why; `most`: number of retries before it is parked."""

    then: Action
    reason: Reason | None = None
    most: int | None = None


READS = frozenset({Operation.LOOK, Operation.LIST})
WRITES = frozenset({Operation.CREATE, Operation.UPDATE})
CREATION = frozenset({Operation.CREATE})
_TOUCHED = frozenset({Operation.LIST, Operation.CREATE})


ANY = frozenset(Operation)
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
AGAIN = Policy(Action.RETRY, Reason.EDGEGAP_ERROR)
BUSY = Policy(Action.SLOW_DOWN, Reason.EDGEGAP_BUSY)
TOKEN_REFUSED = Policy(Action.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED)
NO_IMAGE = Policy(Action.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY)
TABLE: tuple[Row[Policy], ...] = (
    Row(Policy(Action.PARK, Reason.VERSION_LIMIT), WRITES, _FULL, message_pattern(LIMIT)),
    Row(BUSY, ANY, {429}),
    Row(TOKEN_REFUSED, ANY, {401, 403}),
    Row(AGAIN, ANY, {408, *range(500, 600)}),
    Row(Policy(Action.ABSENT), {Operation.LOOK}, {404}),
    Row(Policy(Action.PARK, Reason.APP_MISSING), _TOUCHED, {404}),
    Row(AGAIN, {Operation.UPDATE}, {404}),
    Row(Policy(Action.TAKEN), CREATION, {409}),
    Row(Policy(Action.TAKEN), CREATION, _SAID, message_pattern(TAKEN)),
    Row(NO_IMAGE, WRITES, _SAID, message_pattern(RATE)),
    Row(Policy(Action.PARK, Reason.REGISTRY_LOGIN_REFUSED), WRITES, _SAID, message_pattern(LOGIN)),
    Row(NO_IMAGE, WRITES, {424}),
    Row(NO_IMAGE, WRITES, _SAID, message_pattern(PULL)),
    Row(AGAIN, READS, {400}),  # nothing in a GET could be corrected
    Row(AGAIN, ANY, range(200, 300)),
    Row(Policy(Action.PARK, Reason.REFUSED_BY_EDGEGAP), ANY, range(1000)),
)
FORBIDDEN = Policy(Action.RETRY, Reason.FORBIDDEN_BY_EDGEGAP, most=MAX_REFUSALS)
"""A 403 while the token is accepted: Edgegap refuses only this call."""
_NO_ANSWER = Policy(Action.RETRY, Reason.EDGEGAP_UNREACHABLE)
_FOREIGN = Policy(Action.RETRY, Reason.NOT_EDGEGAP)
_DECLINED = Policy(Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP)
_GO_ON = Policy(Action.GO_ON)


def policy_for(operation: Operation, answer: Answer) -> Policy:
    """Return the policy for this response to this operation."""
    if answer.ok:
        return _GO_ON
    if answer.status is None:
        return _NO_ANSWER
    if answer.foreign:
        return _FOREIGN
    if answer.declined:
        return _DECLINED
    return next(row.means for row in TABLE if row.fits(operation, answer))


def resolve_forbidden(forbidden: Answer, probe: Answer) -> tuple[Policy, Answer]:
    """Return the policy and response that apply to a 403, after a test of the token itself."""
    if probe.accepted:
        return FORBIDDEN, forbidden
    policy = policy_for(Operation.LIST, probe)
    known = policy.then in {Action.CLOSE_GATE, Action.SLOW_DOWN, Action.RETRY}
    return policy if known else AGAIN, probe


def summary_of(answer: Answer) -> str:
    """Return a short summary of the response: its status and message."""
    if answer.status is None:
        return answer.message
    status = f"HTTP {answer.status}"
    if answer.declined and answer.body is not None:
        success = answer.body.get("success", "missing")
        status += f", success: {str(success).lower()[:20]}"
    return status if answer.message in {"", status} else f"{status}: {answer.message}"


def next_result(
    policy: Policy,
    *,
    waited: WaitState,
    detail: str,
    facts: Mapping[str, object],
    now: int,
    jitter: float,
    retry_after: int | None = None,
) -> Result:
    """Return the next wait of a policy that retries, or park if it has lasted too long.

    `jitter` is a random number from 0 to 1; `facts` fill the sentences.
    """
    reason = policy.reason or Reason.REFUSED_BY_EDGEGAP
    answer = {**facts, "detail": detail}
    if policy.then is Action.PARK:
        return _parked(reason, answer)
    so_far = waited.so_far(reason, now)
    lasted = now - so_far.since
    given_up = now - so_far.first >= GIVE_UP_AFTER
    if policy.then is Action.WAIT_FOR_IMAGE:
        if given_up or lasted >= IMAGE_WAITED_LONG:
            return _parked(Reason.IMAGE_NOT_PULLABLE, answer)
        delay = IMAGE_WAITS[min(so_far.times, len(IMAGE_WAITS) - 1)]
        delay = min(delay, so_far.since + IMAGE_WAITED_LONG - now)
    elif policy.then is Action.TRY_THRICE:
        if so_far.times >= len(DECLINED_WAITS):
            return _parked(reason, answer)
        delay = DECLINED_WAITS[so_far.times]
    elif policy.most is not None and so_far.times >= policy.most:
        return _parked(reason, answer)
    elif policy.then is Action.CLOSE_GATE:
        delay = 0  # the gate holds it, not the clock
    elif given_up and policy.then is not Action.WAIT_FOR_SERVER:
        return _parked(Reason.GAVE_UP, answer)
    elif policy.then is Action.SLOW_DOWN:
        delay = backoff(so_far.times, jitter) if retry_after is None else retry_after
        delay = max(MIN_SLOWDOWN, delay)
    else:
        delay = max(backoff(so_far.times, jitter), retry_after or 0)
    return replace(
        Result.waiting(reason, explain(reason, **answer), now + delay, so_far.incremented()),
        close_gate=policy.then is Action.CLOSE_GATE,
        slow_down_until=now + delay if policy.then is Action.SLOW_DOWN else None,
    )


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
    slowest: int = MAX_BACKOFF,
) -> Result | None:
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
    return Result.waiting(reason, sentence, now + delay, so_far.incremented())


def defer_to_other_replicas(claimed: Claimed, result: Result, *, now: int, jitter: float) -> Result:
    """Wait for another replica if this replica does not have the rule that accepted the push.

    Replicas get a changed configuration one after another: this replica may still have the old
    configuration, so it must not park the registration.
    """
    reason = result.reason
    if result.state is not State.PARKED or reason is None or reason not in OF_OTHER_RULES:
        return result
    wait = wait_at_most(
        reason,
        waited=claimed.waited,
        longest=OTHER_RULES_FOR,
        slowest=OTHER_RULES_EVERY,
        sentence=f"Another replica may already have the rule; it is retried for up to 5 minutes. "
        f"{result.sentence}",
        now=now,
        jitter=jitter,
    )
    return result if wait is None else wait


def internal_error(claimed: Claimed, error: Exception, *, now: int, jitter: float) -> Result:
    """Retry later after a fault of our own, as after any temporary error."""
    return next_result(
        Policy(Action.RETRY, Reason.FAULT),
        waited=claimed.waited,
        detail=type(error).__name__,
        facts=claimed.names,
        now=now,
        jitter=jitter,
    )


def _parked(reason: Reason, answer: Mapping[str, object]) -> Result:
    return Result.parked(reason, explain(reason, **answer))
