"""The API: every route behind a bearer token; whatever is sent gets 2xx or 4xx, never 5xx."""

import re
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import ApiToken, ApiTokenSigner, LinkSigner
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import KEY, REPOSITORY, ReceiverProcess, webhook_body

ROUTES = [
    ("GET", "/api/deliveries"),
    ("POST", "/api/deliveries"),
    ("GET", "/api/deliveries/d0"),
    ("POST", "/api/deliveries/d0/replay"),
    ("POST", "/api/replay"),
    ("GET", "/api/overview"),
    ("GET", "/api/versions"),
    ("GET", "/api/pauses"),
    ("POST", "/api/pause"),
    ("POST", "/api/rollback"),
    ("POST", "/api/tokens/revoke"),
]
FEW = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    """One receiver for all the tests here: none of them needs an empty ledger."""
    with serving(EdgegapSandbox().app) as edgegap:
        receiver = ReceiverProcess(tmp_path_factory.mktemp("api"), edgegap)
        yield receiver.start()
        receiver.stop()


@pytest.fixture(scope="module")
def api(one: ReceiverProcess) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {one.api_token()}"}
    with httpx.Client(base_url=one.url, headers=headers, trust_env=False) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(one: ReceiverProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=one.url, trust_env=False) as client:
        yield client


def _tokens() -> dict[str, str | None]:
    now = int(time.time())
    good = ApiTokenSigner([KEY]).sign(ApiToken("0" * 16, now + 60))
    return {
        "none": None,
        "empty": "Bearer",
        "another scheme": f"Basic {good}",
        "no scheme": good,
        "expired": f"Bearer {ApiTokenSigner([KEY]).sign(ApiToken('0' * 16, now))}",
        "another key": f"Bearer {ApiTokenSigner(['x' * 40]).sign(ApiToken('0' * 16, now + 60))}",
        "cut short": f"Bearer {good[:-1]}",
        "a link": f"Bearer {LinkSigner([KEY], {}).token(REPOSITORY)}",
        "not ASCII": "Bearer \xe9\xff",
        "very long": "Bearer " + "x" * 10_000,
    }


@pytest.mark.parametrize("kind", _tokens())
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_without_a_good_token_every_route_answers_401(
    stranger: httpx.Client, method: str, path: str, kind: str
) -> None:
    given = _tokens()[kind]
    headers = {} if given is None else {b"Authorization": given.encode("latin-1")}

    answer = stranger.request(method, path, headers=headers)

    assert answer.status_code == 401
    assert "receiver api-token" in answer.json()["detail"]
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_the_scheme_is_read_in_any_case(one: ReceiverProcess) -> None:
    headers = {"Authorization": f"bEaReR {one.api_token()}"}

    assert httpx.get(f"{one.url}/api/deliveries", headers=headers, trust_env=False).is_success


def test_a_push_a_look_and_a_replay(one: ReceiverProcess, api: httpx.Client) -> None:
    pushed = api.post("/api/deliveries", json={"image": f"{REPOSITORY}:3.0"})
    identity = pushed.json()["id"]
    one.ended(identity)

    shown = api.get(f"/api/deliveries/{identity}").json()
    replayed = api.post(f"/api/deliveries/{identity}/replay")
    listed = api.get("/api/deliveries", params={"tag": "3.0"}).json()["deliveries"]

    assert pushed.status_code == 202
    assert pushed.json()["source"] == "command"
    assert shown["registrations"][0]["outcome"] == "created"
    assert replayed.status_code == 202
    assert replayed.json()["delivery"] == identity
    assert [row["id"] for row in listed] == [identity]


def test_a_push_that_no_rule_takes_is_recorded_and_answered_200(api: httpx.Client) -> None:
    answer = api.post("/api/deliveries", json={"image": "studio/other:1.0"})

    assert answer.status_code == 200
    assert (answer.json()["verdict"], answer.json()["reason"]) == ("ignored", "no_rule")


def test_many_are_replayed_at_once_and_the_missing_are_named(
    one: ReceiverProcess, api: httpx.Client
) -> None:
    ids = [one.post(webhook_body(tag)).json()["delivery"] for tag in ("3.1", "3.2")]

    answer = api.post("/api/replay", json={"ids": [*ids, "d0", ids[0]]})

    assert answer.status_code == 202
    assert [row["delivery"] for row in answer.json()["replayed"]] == ids
    assert answer.json()["missing"] == ["d0"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/deliveries/d0", 404, "delivery_not_found"),
        ("GET", "/api/versions?app=no-such-app", 404, "app_not_found"),
        ("GET", "/api/nothing", 404, "not_found"),
        ("DELETE", "/api/deliveries", 405, "method_not_allowed"),
        ("GET", "/api/deliveries?limit=0", 400, "invalid_request"),
        ("GET", "/nothing", 404, "not_found"),
        ("GET", "/hooks", 404, "not_found"),
        ("POST", "/hooks/dockerhub/no-link", 404, "not_found"),
        ("PUT", "/hooks/dockerhub/no-link", 405, "method_not_allowed"),
        ("POST", "/readyz", 405, "method_not_allowed"),
        ("GET", "/", 404, "page_off"),
        ("POST", "/do/pause", 404, "page_off"),
        ("GET", "/static/nothing.js", 404, "not_found"),
    ],
)
def test_an_error_is_a_problem_of_rfc_9457(
    api: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    answer = api.request(method, path)

    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert list(body) == ["type", "title", "status", "detail", "code"]
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert (body["type"], body["title"]) == ("about:blank", HTTPStatus(status).phrase)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("verdict=perhaps", "`$.verdict`; it is one of accepted, ignored, refused"),
        ("repo=a/b", "unknown field `repo`"),
        ("limit=1001", "<= 1000"),
    ],
)
def test_a_bad_query_is_explained_with_what_is_accepted(
    api: httpx.Client, query: str, words: str
) -> None:
    assert words in api.get(f"/api/deliveries?{query}").json()["detail"]


def test_what_is_not_there_is_404(api: httpx.Client) -> None:
    assert api.get("/api/deliveries/d0").status_code == 404
    assert api.post("/api/deliveries/d0/replay").status_code == 404
    assert api.get("/api/nothing").status_code == 404
    assert api.delete("/api/deliveries").status_code == 405


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "limit=-1",
        "limit=1.5",
        "limit=0",
        "limit=1001",
        "limit=00000000010",
        "limit=%2B5",
        "limit=" + "9" * 400,
        "verdict=perhaps",
        "state=gone",
        "tag=%00",
        "before=%1b",
        "before=zzz",
        "before=d0123456789abcdefg",
        "before=r0123456789abcdefgh",
        "before=d0123456789ABCDEFGH",
        "before=d0123456789abcdefgh%0a",
        "repository=a%0ab",
        "verdict=",
        "limit=",
        "repo=studio/game-server",
        "since=yesterday",
        "until=",
        "since=1780000000000",
        "reason=perhaps",
        "source=page",
        "app=",
    ],
)
def test_a_bad_query_is_400_and_says_what_is_wrong(api: httpx.Client, query: str) -> None:
    answer = api.get(f"/api/deliveries?{query}")

    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_a_cursor_that_is_none_is_refused_with_where_to_get_one(api: httpx.Client) -> None:
    answer = api.get("/api/deliveries?before=zzz")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "expected text that is the `next` of a page" in answer.json()["detail"].lower()
    purged = api.get("/api/deliveries?before=d000000000000000000")
    assert (purged.status_code, purged.json()["deliveries"]) == (200, [])


def test_text_that_only_looks_odd_may_be_looked_for(api: httpx.Client) -> None:
    woman_technologist = "\U0001f469\u200d\U0001f4bb"

    answer = api.get("/api/deliveries", params={"text": woman_technologist})

    assert (answer.status_code, answer.json()) == (200, {"deliveries": [], "next": None})


def test_pages_are_linked_to_the_end(api: httpx.Client) -> None:
    for tag in ("1.0", "2.0", "3.0"):
        api.post("/api/deliveries", json={"image": f"studio/paged:{tag}"})
    query = {"repository": "studio/paged", "source": "command", "limit": "2"}

    first = api.get("/api/deliveries", params=query)
    link = re.fullmatch(r'<(/api/deliveries\?[^>]+)>; rel="next"', first.headers["link"])
    assert link is not None
    second = api.get(link[1])

    pages = [[row["tag"] for row in page.json()["deliveries"]] for page in (first, second)]
    assert pages == [["3.0", "2.0"], ["1.0"]]
    assert first.json()["next"] == first.json()["deliveries"][-1]["id"]
    assert (second.json()["next"], "link" in second.headers) == (None, False)


@pytest.mark.parametrize(
    ("query", "many"),
    [
        ("reason=no_rule", 1),
        ("reason=no_rule_matches", 0),
        ("app=my-game", 0),
        ("since=2026-01-01", 1),
        ("until=2026-01-01T00:00:00Z", 0),
        ("overwritten=1", 0),
        ("overwritten=true", 0),
        ("since=2026-01-01T00:00:00.5%2B02:00", 1),
    ],
)
def test_deliveries_are_found_by_reason_app_and_time(
    api: httpx.Client, query: str, many: int
) -> None:
    api.post("/api/deliveries", json={"image": "studio/found:1.0"})

    found = api.get(f"/api/deliveries?tag=1.0&repository=studio/found&limit=1&{query}")

    assert len(found.json()["deliveries"]) == many


def test_a_search_ends_at_its_depth_and_says_where_to_look_on(
    api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.ledger.queries.DEPTH", 2)
    with serving(EdgegapSandbox().app) as edgegap, receiver_here(tmp_path, edgegap) as here:
        oldest, *others = [here.push(tag) for tag in ("needle", "2.0", "3.0", "4.0")]
        headers = {"Authorization": f"Bearer {here.api_token()}"}

        def search(**query: str) -> Any:
            url = f"{here.url}/api/deliveries"
            return httpx.get(url, params=query, headers=headers, trust_env=False).json()

        first = search(text="needle")
        second = search(text="needle", before=first["next"])

        assert (first["deliveries"], first["next"]) == ([], others[1])
        assert [row["id"] for row in second["deliveries"]] == [oldest]
        assert second["next"] is None
        assert [row["id"] for row in search(tag="needle", repository=REPOSITORY)["deliveries"]] == [
            oldest
        ]


def test_a_method_that_is_not_allowed_is_answered_with_the_allowed_ones(api: httpx.Client) -> None:
    answer = api.delete("/api/deliveries")

    assert answer.headers["allow"] == "GET, HEAD, POST"


def test_as_many_are_given_as_the_limit_says(api: httpx.Client) -> None:
    for tag in ("1.0", "2.0", "3.0"):
        api.post("/api/deliveries", json={"image": f"studio/limited:{tag}"})

    def given(limit: int) -> int:
        query = {"repository": "studio/limited", "limit": str(limit)}
        return len(api.get("/api/deliveries", params=query).json()["deliveries"])

    assert [given(1), given(2), given(1000)] == [1, 2, 3]


@pytest.mark.parametrize("path", ["/api/deliveries", "/api/replay"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'{"unknown": 1}',
        b'{"image": 1}',
        b'{"image": "no-tag"}',
        b'{"image": "a/b:\\u0000"}',
        b'{"ids": "d0"}',
        b'{"ids": ["\\u0000"]}',
        b'{"ids": ["\\ud800"]}',
        b'{"since": -1}',
        b'{"since": 9223372036854775807}',
        b'{"since": 1e400}',
        b'{"parked": 1}',
        b"[" * 100_000,
    ],
)
def test_a_bad_body_is_400(api: httpx.Client, path: str, body: bytes) -> None:
    answer = api.post(path, content=body)

    assert answer.status_code == 400
    assert answer.json()["detail"]


def test_a_body_over_1_mib_is_413(api: httpx.Client) -> None:
    answer = api.post("/api/replay", content=b" " * (1024 * 1024 + 1))

    assert answer.status_code == 413


def test_a_parameter_that_is_given_twice_is_400(api: httpx.Client) -> None:
    """The last one won: `state=parked&state=waiting` listed nothing that is parked."""
    answer = api.get("/api/deliveries?state=parked&state=waiting")

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_request"
    assert "more than once" in answer.json()["detail"]


@FEW
@given(query=st.dictionaries(st.sampled_from(["limit", "tag", "state", "before"]), st.text()))
def test_no_query_is_an_error_of_ours(api: httpx.Client, query: dict[str, str]) -> None:
    encodable = {name: value.encode("utf-8", "replace").decode() for name, value in query.items()}

    assert api.get("/api/deliveries", params=encodable).status_code in {200, 400}


@FEW
@given(body=st.binary(max_size=200) | JSON)
def test_no_body_is_an_error_of_ours(api: httpx.Client, body: Any) -> None:
    sent = {"content": body} if isinstance(body, bytes) else {"json": _sendable(body)}

    for path in ("/api/deliveries", "/api/replay"):
        assert api.post(path, **sent).status_code in {200, 202, 400}


@FEW
@given(replay=st.fixed_dictionaries({}, optional={"ids": JSON, "parked": JSON, "since": JSON}))
def test_no_replay_is_an_error_of_ours(api: httpx.Client, replay: Any) -> None:
    assert api.post("/api/replay", json=_sendable(replay)).status_code in {202, 400}


@FEW
@given(identity=st.text(min_size=1, max_size=40))
def test_no_id_is_an_error_of_ours(api: httpx.Client, identity: str) -> None:
    path = "".join(f"%{byte:02x}" for byte in identity.encode("utf-8", "replace"))

    assert api.get(f"/api/deliveries/{path}").status_code in {400, 404}
    assert api.post(f"/api/deliveries/{path}/replay").status_code in {400, 404}


def _sendable(value: Any) -> Any:
    """Replace lone surrogates, which no client can send as UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_sendable(item) for item in value]
    if isinstance(value, dict):
        return {str(_sendable(key)): _sendable(item) for key, item in value.items()}
    return value


def limited(one: ReceiverProcess, repository: str) -> httpx.Client:
    token = ApiTokenSigner([KEY]).sign(ApiToken("cd" * 8, int(time.time()) + 600, repository))
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=one.url, headers=headers, trust_env=False)


def test_a_token_for_one_repository_sees_and_pushes_that_one_alone(one: ReceiverProcess) -> None:
    mine = one.push("7.7.7")
    with limited(one, REPOSITORY) as owner, limited(one, "studio/unheard-of") as other:
        listed = owner.get("/api/deliveries").json()["deliveries"]
        assert mine in [delivery["id"] for delivery in listed]
        assert {delivery["repository"] for delivery in listed} == {REPOSITORY}
        assert owner.get(f"/api/deliveries/{mine}").status_code == 200
        assert owner.post("/api/deliveries", json={"image": f"{REPOSITORY}:7.7.8"}).is_success
        assert owner.post(f"/api/deliveries/{mine}/replay").is_success

        assert other.get("/api/deliveries").json()["deliveries"] == []
        assert other.get(f"/api/deliveries?repository={REPOSITORY}").status_code == 403
        assert other.get(f"/api/deliveries/{mine}").status_code == 404
        assert other.post(f"/api/deliveries/{mine}/replay").status_code == 404
        pushed = other.post("/api/deliveries", json={"image": f"{REPOSITORY}:7.7.9"})
        assert (pushed.status_code, "studio/unheard-of" in pushed.text) == (403, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [route for route in ROUTES if not route[1].startswith("/api/deliveries")],
)
def test_a_token_for_one_repository_opens_nothing_else(
    one: ReceiverProcess, method: str, path: str
) -> None:
    with limited(one, REPOSITORY) as owner:
        assert owner.request(method, path).status_code == 403


def test_a_token_is_revoked_alone_by_command_and_stays_so(one: ReceiverProcess) -> None:
    made = one.run("api-token", "--repository", REPOSITORY)
    identity = made.stderr.split()[1].rstrip(",")
    headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
    url = f"{one.url}/api/deliveries"
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 200

    assert one.run("api-token", "--revoke", identity).returncode == 0

    answer = httpx.get(url, headers=headers, trust_env=False)
    assert (answer.status_code, "revoked" in answer.text) == (401, True)
    again = one.run("api-token", "--revoke", identity)
    assert (again.returncode, "already revoked" in again.stderr) == (1, True)
    headers = {"Authorization": f"Bearer {one.api_token()}"}
    assert httpx.get(url, headers=headers, trust_env=False).status_code == 200
