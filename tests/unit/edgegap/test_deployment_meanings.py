"""What each response about deployments and pull profiles means."""

import json
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.deployment_answers import Call, Meaning, meaning_of
from receiver.edgegap.responses import Answer, Effect, Success, read_answer

DEPLOYING = Success(frozenset({200, 201, 202}), by_field=False)
STOPPING = Success(frozenset({200, 202, 204}), by_field=False)
METHODS = {Call.DEPLOY: "POST", Call.STOP: "DELETE", Call.LINK: "PUT"}
SUCCESSES = {Call.DEPLOY: DEPLOYING, Call.STOP: STOPPING, Call.LINK: Success(by_field=False)}


def answer(call: Call, status: int, content: bytes) -> Answer:
    return read_answer(
        method=METHODS.get(call, "GET"),
        path="/v2/deployments",
        status=status,
        headers=httpx.Headers(),
        content=content,
        now=0,
        success=SUCCESSES.get(call, Success()),
    )


def meaning(call: Call, status: int, message: str | None = "No", **fields: Any) -> Meaning:
    body = {"message": message, **fields} if message is not None else fields
    return meaning_of(call, answer(call, status, json.dumps(body).encode()))


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (202, None, Meaning.DONE),
        (200, None, Meaning.DONE),
        (422, "No capacity was found", Meaning.NO_CAPACITY),
        (422, "No server could be found there", Meaning.NO_CAPACITY),
        (400, "No available location found", Meaning.NO_CAPACITY),
        (422, "req_cpu 4096 exceeds what your plan has", Meaning.REFUSED),
        (422, "Upgrade your tier for more memory", Meaning.REFUSED),
        (400, "You have reached you Deployment limit of 1", Meaning.DEPLOYMENT_LIMIT),
        (402, "Maximum number of concurrent deployments reached", Meaning.DEPLOYMENT_LIMIT),
        (403, "Your plan has a limit of 1 deployment", Meaning.DEPLOYMENT_LIMIT),
        (422, "Your plan allows only 1 deployment at a time", Meaning.DEPLOYMENT_LIMIT),
        (429, "Slow down", Meaning.RATE_LIMITED),
        (429, "Deployment limit of 40 per second", Meaning.RATE_LIMITED),
        (401, "Unauthorized", Meaning.TOKEN_REFUSED),
        (403, "Forbidden", Meaning.FORBIDDEN),
        (400, "Application version not found", Meaning.UNKNOWN_NAME),
        (404, "Application not found", Meaning.UNKNOWN_NAME),
        (400, "users: must be a list", Meaning.REFUSED),
        (408, "Timeout", Meaning.UNCERTAIN),
        (500, "Internal Server Error", Meaning.UNCERTAIN),
        (503, "Maximum number of deployments", Meaning.UNCERTAIN),
    ],
)
def test_what_a_deployment_is_answered_with(
    status: int, message: str | None, expected: Meaning
) -> None:
    assert meaning(Call.DEPLOY, status, message, request_id="a1") is expected


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (200, "Stopped", Meaning.DONE),
        (202, "It will be stopped once it is ready", Meaning.DONE),
        (400, "Bad Request ID provided", Meaning.GONE),
        (400, "The deployment was not found", Meaning.GONE),
        (400, "It is already terminated", Meaning.GONE),
        (400, "It cannot be stopped now", Meaning.REFUSED),
        (401, "No", Meaning.TOKEN_REFUSED),
        (403, "Forbidden", Meaning.FORBIDDEN),
        (404, "Not found", Meaning.GONE),
        (409, "Conflict", Meaning.REFUSED),
        (410, "Already stopped", Meaning.GONE),
        (429, "Slow down", Meaning.RATE_LIMITED),
        (500, "Oops", Meaning.UNCERTAIN),
    ],
)
def test_what_a_stop_is_answered_with(status: int, message: str, expected: Meaning) -> None:
    assert meaning(Call.STOP, status, message) is expected


@pytest.mark.parametrize("call", [Call.LOGS, Call.METRICS])
@pytest.mark.parametrize("status", [400, 404, 410, 422])
def test_logs_and_metrics_that_are_not_there_are_gone(call: Call, status: int) -> None:
    assert meaning(call, status, "The request could not be understood") is Meaning.GONE


def test_a_status_that_is_refused_for_another_reason_is_not_gone() -> None:
    assert meaning(Call.STATUS, 400, "Bad Request ID provided") is Meaning.GONE
    assert meaning(Call.STATUS, 404, "Not found") is Meaning.GONE
    assert meaning(Call.STATUS, 400, "Unknown Args") is Meaning.REFUSED
    assert meaning(Call.LIST, 400, "Bad Request ID provided") is Meaning.REFUSED


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (200, None, Meaning.DONE),
        (409, "Conflict", Meaning.DONE),
        (400, "The pull profile is already linked", Meaning.DONE),
        (404, "Pull profile not found", Meaning.UNKNOWN_NAME),
        (400, "No such endpoint", Meaning.UNKNOWN_NAME),
        (400, "The endpoint doesn't exist", Meaning.UNKNOWN_NAME),
        (400, "The version is not active", Meaning.REFUSED),
    ],
)
def test_what_a_link_is_answered_with(status: int, message: str | None, expected: Meaning) -> None:
    assert meaning(Call.LINK, status, message, pull_profile="maps") is expected


@pytest.mark.parametrize("call", list(Call))
@pytest.mark.parametrize("status", [200, 202, 302, 404, 410, 422])
def test_a_page_of_a_proxy_means_nothing(call: Call, status: int) -> None:
    page = answer(call, status, b"<html><title>Not found</title></html>")

    # Except that it is no success: a 410 or 422 with a page is not Edgegap's either.
    assert meaning_of(call, page) is Meaning.UNCERTAIN
    assert not page.ok


@pytest.mark.parametrize("call", [Call.DEPLOY, Call.STOP, Call.LINK])
def test_success_false_is_uncertain(call: Call) -> None:
    declined = answer(call, 200, b'{"success": false, "message": "Bad Request ID provided"}')

    assert declined.declined
    assert meaning_of(call, declined) is Meaning.UNCERTAIN
    assert declined.effect is Effect.UNKNOWN


def test_no_response_is_uncertain() -> None:
    none = Answer("POST", "/v2/deployments", None, message="the connection broke")

    assert all(meaning_of(call, none) is Meaning.UNCERTAIN for call in Call)


@pytest.mark.parametrize(
    ("call", "status", "effect"),
    [
        (Call.DEPLOY, 202, Effect.DONE),
        (Call.STOP, 202, Effect.DONE),
        (Call.STOP, 410, Effect.NONE),
        (Call.DEPLOY, 422, Effect.NONE),
        (Call.DEPLOY, 500, Effect.UNKNOWN),
        (Call.LINK, 202, Effect.UNKNOWN),
    ],
)
def test_a_202_is_a_success_where_it_is_documented(call: Call, status: int, effect: Effect) -> None:
    assert answer(call, status, b'{"message": "x", "request_id": "a1"}').effect is effect


@given(
    st.sampled_from(list(Call)),
    st.integers(100, 599),
    st.binary(max_size=40)
    | st.dictionaries(st.text(max_size=8), st.text()).map(lambda body: json.dumps(body).encode()),
)
def test_every_response_means_something(call: Call, status: int, content: bytes) -> None:
    read = answer(call, status, content)

    found = meaning_of(call, read)

    assert isinstance(found, Meaning)
    assert (found is Meaning.DONE) <= (read.ok or call is Call.LINK)
    if status >= 500 or read.foreign:
        assert found is Meaning.UNCERTAIN
