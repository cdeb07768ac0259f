"""The API's document: valid, whole, and true of what a real receiver answers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from starlette.routing import Route

from receiver.config.load import load_settings
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import DEPTH
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Mode
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import LinkFault
from receiver.upkeep.health import Code
from receiver.version import VERSION
from receiver.web.app import create_app
from receiver.web.bodies import MAX_MISSED
from receiver.web.document import document_of
from receiver.web.messages import ProblemCode
from receiver.web.operations import operations as listed
from receiver.web.webhook import Hooks
from tests.contract.openapi import contract_checked
from tests.support.receiver_process import (
    APP,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)

DOCUMENT = document_of(listed(Hooks("")))
OPENAPI: dict[str, Any] = json.loads(DOCUMENT)
METRICS_TOKEN = "metrics-token-of-the-test"
# A version for each tag, a channel that follows the newest, and another app's rule that parks.
MOVING = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]\nkeep = 1')
CONFIG = f"""
{MOVING}
[[rule]]
name = "no settings"
repository = "{REPOSITORY}"
app = "lobby"
preflight = false
"""
NOT_ITS_OWN = frozenset({404, 405})  # a path or method of no operation: the document says it once
SPOKEN = frozenset({"/api", "/hooks", "/livez", "/readyz", "/metrics"})
ALONE = frozenset({"repository", "tag", "wait"})
FILTERS = {
    one["name"]: Draft202012Validator(one["schema"])
    for one in OPENAPI["paths"]["/api/deliveries"]["get"]["parameters"]
}
FEW = settings(
    max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)

api = schemathesis.openapi.from_dict(OPENAPI)
FOUND: Any = api.get_all_operations()
OPERATIONS = [found.ok() for found in FOUND]


@api.hook  # type: ignore[untyped-decorator, unused-ignore]
def map_body(context: Any, body: Any) -> Any:
    """JSON Schema takes 1.0 for an integer; the receiver wants integers written as such."""
    return _as_integers(body)


@api.hook  # type: ignore[untyped-decorator, unused-ignore]
def map_query(context: Any, query: Any) -> Any:
    """No parameter can require another: `wait` goes with `image`, which excludes the repository.

    What is invalid by itself is kept, because a case may be invalid through it alone.
    """
    left_out = ALONE if query and "image" in query else {"wait"}
    return {
        name: value
        for name, value in (query or {}).items()
        if name not in left_out or not FILTERS[name].is_valid(value)
    }


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    """One that has met what the answers can hold: done, moved, parked, ignored, refused, paused."""
    checked = contract_checked(EdgegapSandbox(apps=("my-game", "lobby")).app)
    with serving(checked) as edgegap:
        one = ReceiverProcess(
            tmp_path_factory.mktemp("document"),
            edgegap,
            config=CONFIG,
            environment={"RECEIVER_METRICS_TOKEN": METRICS_TOKEN},
        ).start()
        for tag in ("1.0.0", "2.0.0"):
            one.ended(one.push(tag))
        one.post(webhook_body(None))
        one.post(b"no json")
        ask(one, "POST", "/api/deliveries", {"image": "studio/lobby:1.0.0"})
        ask(one, "POST", "/api/pause", {"repository": "studio/lobby"})
        yield one
        one.stop()
    assert checked.violations == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=[one.label for one in OPERATIONS])
def test_every_answer_is_as_documented(operation: Any, receiver: ReceiverProcess) -> None:
    token = METRICS_TOKEN if operation.path == "/metrics" else receiver.api_token()
    headers = {"Authorization": f"Bearer {token}"}
    as_documented = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    otherwise = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

    @FEW
    @given(case=as_documented | otherwise)
    def hold(case: Any) -> None:
        answer = case.call(base_url=receiver.url, headers=headers, timeout=20)
        case.validate_response(answer)
        if answer.status_code not in NOT_ITS_OWN:
            assert_documented(operation.method.upper(), operation.path, answer)

    hold()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/api/overview", None, 200),
        ("GET", "/api/rules", None, 200),
        ("GET", f"/api/check?image={REPOSITORY}:latest", None, 200),
        ("GET", f"/api/check?image={REPOSITORY}:9.9.9", None, 200),
        ("GET", "/api/check?image=studio", None, 400),
        ("GET", "/api/deliveries", None, 200),
        ("GET", f"/api/deliveries?image={REPOSITORY}:no-such-tag&wait=0", None, 404),
        ("GET", "/api/deliveries?image=studio/lobby:1.0.0&wait=0", None, 409),
        ("GET", f"/api/versions?app={APP}", None, 200),
        ("GET", "/api/versions?app=no-such-app", None, 404),
        ("GET", f"/api/diff?app={APP}&a=1.0.0&b=2.0.0", None, 200),
        ("GET", f"/api/diff?app={APP}&a=1.0.0&b=9.9", None, 404),
        ("GET", "/api/diff?app=no-such-app&a=1&b=2", None, 404),
        ("GET", f"/api/export?app={APP}&version=2.0.0", None, 200),
        ("GET", f"/api/export?app={APP}&version=..", None, 400),
        ("POST", "/api/trials", {"app": APP, "version": "2.0.0", "at": "45.5,-73.6"}, 202),
        ("POST", "/api/trials", {"app": APP, "version": "9.9"}, 409),
        ("POST", "/api/trials", {"app": APP, "version": "2.0.0", "at": "nowhere"}, 400),
        ("GET", "/api/pauses", None, 200),
        ("POST", "/api/deliveries", {"image": f"{REPOSITORY}:3.0.0"}, 202),
        ("POST", "/api/deliveries", {"image": "studio/other:1.0"}, 200),
        ("POST", "/api/replay", {"parked": True, "ids": ["d0"]}, 202),
        ("POST", "/api/rollback", {"app": APP, "channel": "staging"}, 202),
        ("POST", "/api/rollback", {"app": APP, "channel": "nightly"}, 409),
        ("GET", "/api/channels", None, 200),
        ("GET", f"/api/channels?app={APP}", None, 200),
        ("GET", "/api/channels?app=no-such-app", None, 404),
        ("POST", "/api/release", {"app": APP, "channel": "staging"}, 200),
        ("POST", "/api/release", {"app": APP, "channel": "staging"}, 409),
        ("GET", f"/api/promotion?app={APP}&channel=staging&to=1.0.0", None, 200),
        ("GET", f"/api/promotion?app={APP}&channel=staging", None, 409),
        ("POST", "/api/promote", {"app": APP, "channel": "staging", "to": "1.0.0"}, 202),
        ("POST", "/api/promote", {"app": APP, "channel": "staging"}, 409),
        ("POST", "/api/prune", {"app": APP}, 200),
        ("POST", "/api/prune", {"app": "no-such-app"}, 409),
        ("POST", "/api/dismiss", {"ids": ["r0"]}, 200),
        ("POST", "/api/dismiss", {"all": True, "reason": "no_settings", "name": "anna"}, 200),
        ("POST", "/api/dismiss/undo", {"ids": ["r0"]}, 200),
        ("GET", "/livez", None, 200),
        ("GET", "/readyz", None, 200),
    ],
)
def test_what_holds_something_is_as_documented_too(
    receiver: ReceiverProcess, method: str, path: str, body: Any, status: int
) -> None:
    answer = ask(receiver, method, path, body)

    assert answer.status_code == status, answer.text
    assert_documented(method, path.partition("?")[0], answer)
    # Else it may end after the next request; a trial takes a minute, and is waiting meanwhile.
    if status == 202:
        until(lambda: not any(_deliveries(receiver, state) for state in ("queued", "working")))
        receiver.wait_for_commits()


def test_a_delivery_s_details_are_as_documented_to_the_last_call(
    receiver: ReceiverProcess,
) -> None:
    for delivery in ask(receiver, "GET", "/api/deliveries?repository=" + REPOSITORY).json()[
        "deliveries"
    ]:
        url = f"/api/deliveries/{delivery['id']}"
        answer, replayed = ask(receiver, "GET", url), ask(receiver, "POST", f"{url}/replay")
        assert_documented("GET", "/api/deliveries/{id}", answer)
        assert_documented("POST", "/api/deliveries/{id}/replay", replayed)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (webhook_body("4.0.0"), 202),
        (webhook_body(None), 200),
        (webhook_body("latest"), 200),
        (b"{}", 400),
        (b" " * (1024 * 1024 + 1), 413),
    ],
)
def test_what_docker_hub_is_answered_is_as_documented(
    receiver: ReceiverProcess, body: Any, status: int
) -> None:
    answer = receiver.post(body)

    assert answer.status_code == status
    assert_documented("POST", "/hooks/dockerhub/{token}", answer)


def test_the_document_is_valid_and_served_to_anyone(receiver: ReceiverProcess) -> None:
    answer = httpx.get(f"{receiver.url}/api/openapi.json", trust_env=False)

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    validate(answer.json())


def test_it_has_every_route_of_the_app_and_nothing_else(tmp_path: Path) -> None:
    found = load_settings(
        {"RECEIVER_CONFIG_TOML": RULE, "DATABASE_URL": f"sqlite:///{tmp_path}/db"}
    )
    routes = [
        one
        for one in create_app(found, Ledger(found.database_url)).routes
        if isinstance(one, Route)
    ]
    spoken = {
        (method, route.path.rstrip("/"))
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}  # stands wherever GET does
        if "/" + route.path.split("/")[1] in SPOKEN
    }

    documented = [(method, path) for path, method, _ in operations()]
    assert sorted(documented) == sorted(spoken)


def test_each_word_it_knows_is_one_the_receiver_uses() -> None:
    schemas = OPENAPI["components"]["schemas"]

    for kind in (Verdict, State, Outcome, Reason, Mode, Code, LinkFault, ProblemCode):
        assert schemas[kind.__name__]["enum"] == sorted(kind), kind
    filters = {
        one["name"]: one["schema"]
        for one in OPENAPI["paths"]["/api/deliveries"]["get"]["parameters"]
    }
    assert sorted(filters["source"]["enum"]) == sorted(schemas["DeliverySource"]["enum"])


def test_it_states_the_version_and_describes_every_schema() -> None:
    assert OPENAPI["info"]["version"] == VERSION
    for name, schema in OPENAPI["components"]["schemas"].items():
        assert schema["description"].endswith("."), name


def test_the_bounds_it_gives_are_the_receivers() -> None:
    missed = OPENAPI["components"]["schemas"]["CatchUpRequest"]["properties"]["missed"]

    assert missed["maxItems"] == MAX_MISSED
    assert f"ends after {DEPTH} deliveries" in DOCUMENT.decode()


def test_every_operation_behind_the_token_documents_401_and_503() -> None:
    behind = [one for _, _, one in operations() if one["security"] == [{"token": []}]]
    of_the_api = [path for path, _, _ in operations() if path.startswith("/api/")]

    assert len(behind) == len(of_the_api) - 1  # the document itself is for anyone
    assert all({"401", "503"} <= set(one["responses"]) for one in behind)


def operations() -> list[tuple[str, str, Any]]:
    """Path, method and operation of all that the document holds."""
    return [
        (path, method.upper(), operation)
        for path, item in OPENAPI["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def assert_documented(method: str, path: str, answer: Any) -> None:
    """The status is one that the document gives, and the answer has the form given for it.

    Held by jsonschema, to the last field: schemathesis lets some through that no schema names.
    """
    responses = {(result, way): one["responses"] for result, way, one in operations()}[path, method]
    assert str(answer.status_code) in responses
    content = responses[str(answer.status_code)].get("content", {})
    given = answer.headers.get("content-type", "")  # schemathesis gives a list
    media = (given if isinstance(given, str) else given[0]).partition(";")[0]
    if answer.content:
        assert media in content
    if answer.content and media.endswith("json"):
        schema = {**content[media]["schema"], "components": OPENAPI["components"]}
        faults = Draft202012Validator(schema).iter_errors(json.loads(answer.content))
        assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []


def _deliveries(receiver: ReceiverProcess, state: str) -> list[Any]:
    answer = ask(receiver, "GET", f"/api/deliveries?app={APP}&state={state}").json()
    found: list[Any] = answer["deliveries"]
    return found


def ask(receiver: ReceiverProcess, method: str, path: str, body: Any = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    url = receiver.url + path
    return httpx.request(method, url, json=body, headers=headers, trust_env=False, timeout=20)


def _as_integers(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_as_integers(one) for one in value]
    if isinstance(value, dict):
        return {name: _as_integers(one) for name, one in value.items()}
    return value
