"""What happens on each answer of Edgegap, and when the next try is due."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from receiver.backoff import WaitState, backoff, probe_delay
from receiver.edgegap.responses import Answer, read_answer
from receiver.images import ImageReference
from receiver.ledger.claims import Claimed
from receiver.ledger.results import Result
from receiver.pipeline.retry import (
    FORBIDDEN,
    TABLE,
    Action,
    Operation,
    Policy,
    defer_to_other_replicas,
    next_result,
    policy_for,
    summary_of,
)
from receiver.reasons import REASONS, Outcome, Reason, State, explain
from receiver.rules.rule import Mode

NOW = 1_790_000_000_000
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
GET, POST, PATCH = "GET", "POST", "PATCH"
NOTHING = None  # timeout, reset, refused connection
LIMIT = "You have reached you Application Version limit of 2"
LOGIN = "Unable to login with the given credentials"
PULL = "Unable to pull image from registry"
EXISTS = "Application version 1.0 already exists"
DECLINED = '{"success": false, "message": "Not now"}'
EVERY_STATUS = (200, 204, 302, 400, 401, 403, 404, 408, 409, 424, 429, 500, 502, 504)
NEVER_EMPTY = (200, 302, 400, 401, 403, 404, 409, 424)
CLAIMED = Claimed(
    id="r1",
    rule="a rule",
    app="my-game",
    version="1.0",
    mode=Mode.CREATE,
    image=ImageReference("studio/game-server", "1.0"),
    push_time=NOW,
    attempt=1,
    fence=1,
    waited=WaitState(),
    created_at=NOW,
)
FACTS = {"app": "my-game", "version": "1.0", "rule": "a rule", "image": "docker.io/a/b:1.0"}

METHODS = {
    Operation.LOOK: GET,
    Operation.LIST: GET,
    Operation.CREATE: POST,
    Operation.UPDATE: PATCH,
    Operation.LINK: "PUT",
}
ALL, READS, WRITES = (
    tuple(Operation),
    (Operation.LOOK, Operation.LIST),
    (Operation.CREATE, Operation.UPDATE),
)

# design.md, "What happens on each answer": calls, status, body, then, reason
ANSWERS: list[tuple[tuple[Operation, ...], int | None, str, Action, Reason | None]] = [
    (READS, 200, '{"name": "1.0"}', Action.GO_ON, None),
    (ALL, 200, '{"success": true}', Action.GO_ON, None),
    (ALL, 200, '{"success": "True"}', Action.GO_ON, None),
    *(
        (ALL, 200, f'{{"success": {written}}}', Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP)
        for written in ('"false"', '"False"', "0", "0.0", "null", '"no"', '""', "[]", "{}")
    ),
    (WRITES, 200, '{"message": "Not now"}', Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP),
    (WRITES, 200, '{"name": "1.0"}', Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP),
    *(
        (ALL, 404, body, Action.RETRY, Reason.NOT_EDGEGAP)
        for body in (
            '{"message": ""}',
            '{"error": "x"}',
            '{"message": null}',
            '[{"message": "x"}]',
            " {}",
        )
    ),
    *((ALL, status, "<html>", Action.RETRY, Reason.NOT_EDGEGAP) for status in EVERY_STATUS),
    *((ALL, status, "", Action.RETRY, Reason.NOT_EDGEGAP) for status in NEVER_EMPTY),
    *((ALL, status, "{}", Action.RETRY, Reason.NOT_EDGEGAP) for status in (301, 302, 307, 407)),
    (ALL, 200, DECLINED, Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP),
    (ALL, 201, DECLINED, Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP),
    (ALL, 202, "{}", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, NOTHING, "", Action.RETRY, Reason.EDGEGAP_UNREACHABLE),
    (ALL, 500, "{}", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 503, "", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 504, "", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 599, "", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 408, "", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 408, "{}", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 429, "", Action.SLOW_DOWN, Reason.EDGEGAP_BUSY),
    (ALL, 429, "{}", Action.SLOW_DOWN, Reason.EDGEGAP_BUSY),
    (ALL, 401, "{}", Action.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED),
    (ALL, 403, "{}", Action.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED),
    ((Operation.LOOK,), 404, "{}", Action.ABSENT, None),
    ((Operation.LIST, Operation.CREATE), 404, "{}", Action.PARK, Reason.APP_MISSING),
    ((Operation.UPDATE,), 404, "{}", Action.RETRY, Reason.EDGEGAP_ERROR),
    ((Operation.CREATE,), 409, "{}", Action.TAKEN, None),
    ((Operation.LINK,), 400, "{}", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    ((Operation.UPDATE,), 409, "{}", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (WRITES, 424, "{}", Action.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY),
    *(
        (WRITES, status, says, Action.PARK, Reason.REGISTRY_LOGIN_REFUSED)
        for status in (400, 422, 424)
        for says in (
            *(LOGIN, LOGIN.upper(), "cannot log in", "bad CREDENTIALS", "Not logged in"),
            *("authentication required", "UNAUTHORIZED", "pull: not authenticated"),
            *("pull access denied for studio/game", "Invalid username/password"),
            *("denied: requested access to the resource is denied", "Unable to authenticate"),
        )
    ),
    *(
        (WRITES, status, says, Action.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY)
        for status in (400, 422, 424)
        for says in (
            *(PULL, PULL.upper(), "the image could not be pulled", "manifest unknown"),
            *("manifest for studio/game:1.0 not found", "The image a/b:1 does not exist"),
            *("No such image: a/b:1", "Unable to find image", "toomanyrequests: see docker.com"),
            "You have reached your unauthenticated pull rate limit.",
        )
    ),
    (WRITES, 400, LIMIT, Action.PARK, Reason.VERSION_LIMIT),
    *(
        (WRITES, status, LIMIT, Action.PARK, Reason.VERSION_LIMIT)
        for status in (402, 403, 409, 422, 424)
    ),
    *(
        (WRITES, 400, says, Action.PARK, Reason.VERSION_LIMIT)
        for says in (
            *("Version quota exceeded", "Limit of 2 versions reached", "Too many versions"),
            "Maximum number of application versions reached",
        )
    ),
    (WRITES, 400, "You have reached the LIMIT OF 10", Action.PARK, Reason.VERSION_LIMIT),
    (WRITES, 400, "name: over the limit of 64", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    *(
        ((Operation.CREATE,), status, says, Action.TAKEN, None)
        for status in (400, 422, 424)
        for says in (
            *(EXISTS, EXISTS.upper(), "name has already been taken", "name is already in use"),
            *("Duplicate version name", "duplicate key value", "A version with this name exists"),
            *("The version name must be unique", '{"error": {"code": "already_exists"}}'),
            *("Application version exists", "The version 1.0 is already registered"),
        )
    ),
    (WRITES, 400, "ports: duplicate port number", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (WRITES, 400, "ports: name must be unique", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (WRITES, 400, "this port exists twice", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    ((Operation.UPDATE,), 400, EXISTS, Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (WRITES, 400, "Unknown Args", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (READS, 400, LOGIN, Action.RETRY, Reason.EDGEGAP_ERROR),
    (READS, 400, "Bad Request ID provided", Action.RETRY, Reason.EDGEGAP_ERROR),
    (ALL, 402, "{}", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (ALL, 405, "{}", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
    (ALL, 422, "{}", Action.PARK, Reason.REFUSED_BY_EDGEGAP),
]


def answered(call: Operation, status: int | None, content: str) -> Answer:
    if status is None:
        return Answer(METHODS[call], "/", None, message="no answer in time")
    if content == "{}":
        content = '{"message": "something"}' if status != 200 else content
    elif content and content[0] not in "<{[ ":
        content = json.dumps({"message": content})
    return read_answer(
        method=METHODS[call],
        path="/",
        status=status,
        headers={},
        content=content.encode(),
        now=NOW,
    )


def test_the_whole_table() -> None:
    walked: set[object] = set()
    for calls, status, content, then, reason in ANSWERS:
        for call in calls:
            answer = answered(call, status, content)
            policy = policy_for(call, answer)
            first = next((row for row in TABLE if row.fits(call, answer)), None)
            if first is not None and first.means is policy:
                walked.add(first)
            assert (policy.then, policy.reason) == (then, reason), (call, status, content)

    assert walked == set(TABLE), "a row that no answer reaches"


@given(st.sampled_from(Operation), st.integers(100, 599), st.text(max_size=30))
def test_every_answer_has_its_row(call: Operation, status: int, content: str) -> None:
    row = policy_for(call, answered(call, status, content))

    assert row.reason is not None or row.then in {Action.GO_ON, Action.ABSENT, Action.TAKEN}


RETRY = Policy(Action.RETRY, Reason.EDGEGAP_ERROR)
IMAGE = Policy(Action.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY)
DECLINED_ROW = Policy(Action.TRY_THRICE, Reason.DECLINED_BY_EDGEGAP)
BUSY = Policy(Action.SLOW_DOWN, Reason.EDGEGAP_BUSY)
TOKEN = Policy(Action.CLOSE_GATE, Reason.EDGEGAP_TOKEN_REFUSED)


def next_of(
    row: Policy,
    waited: WaitState = WaitState(),  # noqa: B008 - frozen
    *,
    now: int = NOW,
    jitter: float = 1.0,
    retry_after: int | None = None,
) -> Result:
    return next_result(
        row,
        waited=waited,
        detail="HTTP 500",
        retry_after=retry_after,
        facts=FACTS,
        now=now,
        jitter=jitter,
    )


def schedule(row: Policy, jitter: float = 1.0) -> tuple[list[int], Result]:
    """Return the delays (ms) until it parks, when each try takes no time, and the parking."""
    delays, now, waited = [], NOW, WaitState()
    while (found := next_of(row, waited, now=now, jitter=jitter)).state is State.WAITING:
        delays.append(found.due_at - now)
        now, waited = found.due_at, found.waited
        assert len(delays) < 10_000
    return delays, found


def test_trouble_is_met_with_2_s_doubling_to_10_min_for_24_hours() -> None:
    delays, parking = schedule(RETRY)

    seconds = [delay // SECOND for delay in delays]
    assert seconds[:10] == [2, 4, 8, 16, 32, 64, 128, 256, 512, 600]
    assert set(seconds[10:]) == {600}
    assert 24 * HOUR <= sum(delays) < 24 * HOUR + 10 * MINUTE
    assert parking.reason is Reason.GAVE_UP
    assert "24 hours" in parking.sentence
    assert "HTTP 500" in parking.sentence


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_jitter_is_full(times: int, jitter: float) -> None:
    assert backoff(times, 0.0) == 0
    assert 0 <= backoff(times, jitter) <= backoff(times, 1.0) <= 10 * MINUTE
    assert backoff(times, jitter) == int(backoff(times, 1.0) * jitter)


def test_an_image_that_cannot_be_pulled_yet_is_tried_for_10_minutes() -> None:
    delays, parking = schedule(IMAGE, jitter=0.0)

    assert [delay // SECOND for delay in delays] == [2, 5, 15, 30, 60, 120, 120, 120, 120, 8]
    assert sum(delays) == 10 * MINUTE
    assert parking.reason is Reason.IMAGE_NOT_PULLABLE
    assert "linux/amd64" in parking.sentence


def test_what_edgegap_declined_is_tried_three_more_times_within_a_minute() -> None:
    delays, parking = schedule(DECLINED_ROW)

    assert len(delays) == 3
    assert all(delay >= 5 * SECOND for delay in delays)
    assert sum(delays) < MINUTE
    assert parking.reason is Reason.DECLINED_BY_EDGEGAP
    assert "HTTP 500" in parking.sentence


def test_what_edgegap_declined_is_not_counted_with_other_trouble() -> None:
    found = next_of(DECLINED_ROW, WaitState(Reason.EDGEGAP_ERROR, NOW - HOUR, 9))

    assert found.state is State.WAITING
    assert found.waited.times == 1


def test_what_declined_says_so_beside_its_status() -> None:
    answer = answered(Operation.CREATE, 200, DECLINED)

    assert summary_of(answer) == "HTTP 200, success: false: Not now"


def test_a_slow_try_shortens_no_wait_but_the_10_minutes_hold() -> None:
    late = WaitState(Reason.IMAGE_NOT_READY, since=NOW - 10 * MINUTE + 500, times=2)

    found = next_of(IMAGE, late)

    assert found.state is State.WAITING
    assert found.due_at == NOW + 500


@given(st.integers(1000, 24 * HOUR), st.integers(0, 40), st.floats(0, 1))
def test_a_retry_never_waits_less_than_retry_after(
    retry_after: int, times: int, jitter: float
) -> None:
    waited = WaitState(Reason.EDGEGAP_BUSY, NOW - HOUR, times)

    busy = next_of(BUSY, waited, retry_after=retry_after, jitter=jitter)
    trouble = next_of(RETRY, waited, retry_after=retry_after, jitter=jitter)

    assert busy.state is State.WAITING
    assert busy.due_at == NOW + retry_after
    assert trouble.state is State.WAITING
    assert trouble.due_at >= NOW + retry_after


def test_429_without_a_time_backs_off_by_itself() -> None:
    delays, parking = schedule(BUSY)

    assert [delay // SECOND for delay in delays[:4]] == [2, 4, 8, 16]
    assert parking.reason is Reason.GAVE_UP


@pytest.mark.parametrize("retry_after", [None, 0, 1])
def test_429_is_never_answered_at_once(retry_after: int | None) -> None:
    found = next_of(BUSY, retry_after=retry_after, jitter=0.0)

    assert found.state is State.WAITING
    assert found.due_at == NOW + SECOND


def test_a_refused_token_parks_nothing_however_long_it_lasts() -> None:
    waited = WaitState(Reason.EDGEGAP_TOKEN_REFUSED, NOW - 400 * 24 * HOUR, 9000)

    found = next_of(TOKEN, waited)

    assert found.state is State.WAITING
    assert found.due_at == NOW  # the gate holds it, not the clock
    assert "EDGEGAP_TOKEN" in found.sentence


def test_what_is_forbidden_again_and_again_with_a_good_token_is_parked() -> None:
    for times in range(5):
        found = next_of(FORBIDDEN, WaitState(Reason.FORBIDDEN_BY_EDGEGAP, NOW, times))
        assert found.state is State.WAITING
    parked = next_of(FORBIDDEN, WaitState(Reason.FORBIDDEN_BY_EDGEGAP, NOW, 5))
    assert parked.state is State.PARKED
    assert parked.reason is Reason.FORBIDDEN_BY_EDGEGAP


def test_what_is_forbidden_is_not_counted_with_other_trouble() -> None:
    found = next_of(FORBIDDEN, WaitState(Reason.EDGEGAP_ERROR, NOW - HOUR, 9))

    assert found.state is State.WAITING
    assert found.waited.times == 1


def test_the_gate_is_probed_each_10_s_slowing_to_5_min() -> None:
    assert [probe_delay(probes) // SECOND for probes in range(8)] == [
        *[10, 20, 40, 80, 160],
        *[300, 300, 300],
    ]
    assert probe_delay(100_000) == 5 * MINUTE


def test_the_same_trouble_under_another_name_goes_on_counting() -> None:
    waited = WaitState(Reason.EDGEGAP_UNREACHABLE, NOW - 24 * HOUR, 200)

    for row in (RETRY, BUSY, Policy(Action.RETRY, Reason.FAULT)):
        found = next_of(row, waited)
        assert found.state is State.PARKED
        assert found.reason is Reason.GAVE_UP


def test_other_trouble_begins_a_count_of_its_own() -> None:
    waited = WaitState(Reason.IMAGE_NOT_READY, NOW - HOUR, 200)

    found = next_of(RETRY, waited)

    assert found.state is State.WAITING
    assert found.waited == WaitState(Reason.EDGEGAP_ERROR, NOW, 1, waited.since)


def test_a_row_that_parks_parks_at_once_with_its_sentence() -> None:
    found = next_of(Policy(Action.PARK, Reason.APP_MISSING))

    assert found == Result.parked(Reason.APP_MISSING, explain(Reason.APP_MISSING, **FACTS))
    assert "my-game" in explain(Reason.APP_MISSING, **FACTS)


def test_a_wait_carries_what_the_ledger_needs_to_go_on_after_a_restart() -> None:
    first = next_of(RETRY)
    assert first.state is State.WAITING
    kept = replace(first.waited)

    again = next_of(RETRY, kept, now=first.due_at + HOUR)

    assert again.state is State.WAITING
    assert again.waited == WaitState(Reason.EDGEGAP_ERROR, NOW, 2, NOW)


def test_trouble_that_changes_its_kind_all_the_time_is_given_up_after_a_day_too() -> None:
    waited = WaitState(Reason.IMAGE_NOT_READY, NOW - HOUR, 3, NOW - 25 * HOUR)

    found = next_of(RETRY, waited)

    assert found.state is State.PARKED
    assert found.reason is Reason.GAVE_UP


def test_a_refused_token_takes_nothing_from_the_day() -> None:
    waited = WaitState(Reason.EDGEGAP_TOKEN_REFUSED, NOW - 48 * HOUR, 9, NOW - 48 * HOUR)

    assert next_of(RETRY, waited).state is State.WAITING


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_stands_in_the_one_table_with_a_sentence(reason: Reason) -> None:
    sentence = explain(reason, detail="{not a field}")

    assert sentence.endswith(".")
    assert reason in REASONS
    assert "{{" not in sentence


def test_no_word_means_two_things() -> None:
    words = [*Reason, *Outcome, *State]

    assert len({word.value for word in words}) == len(words)


@given(jitter=st.floats(0, 1))
def test_other_replicas_are_asked_for_a_rule_to_the_end_and_often(jitter: float) -> None:
    """Each time it is one of them by chance: with ever longer waits, none that had it came by."""
    parked = Result.parked(Reason.RULE_GONE, "The rule is gone.")
    claimed, now, asked = CLAIMED, NOW, 0
    while (tried := defer_to_other_replicas(claimed, parked, now=now, jitter=jitter)) is not parked:
        due_at, waited = tried.due_at, tried.waited
        assert due_at is not None
        assert waited is not None
        assert SECOND <= due_at - now <= 5 * SECOND or due_at == NOW + 5 * MINUTE
        claimed, now, asked = replace(claimed, waited=waited), due_at, asked + 1
    assert now == NOW + 5 * MINUTE
    assert asked >= 60
