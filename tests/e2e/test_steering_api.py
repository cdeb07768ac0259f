"""The API's routes for steering: what they refuse, and how they say so."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.timestamps import read_iso
from receiver.web.bodies import MAX_MISSED
from tests.support.dockerhub import deliveries
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE

MISSED = {"repository": REPOSITORY, "tag": "1.0", "pushed_at": "2026-05-28T20:26:40Z"}
DIGEST = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("steering")
    with (
        serving(EdgegapSandbox().app) as url,
        receiver_here(folder, url, config=RULE) as receiver,
    ):
        yield receiver


def ask(here: ReceiverHere, path: str, body: object, token: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or here.api_token()}"}
    return httpx.post(f"{here.url}/api/{path}", json=body, headers=headers, trust_env=False)


@pytest.mark.parametrize(
    "path", ["pause", "resume", "rollback", "prune", "dismiss", "dismiss/undo", "catch-up"]
)
def test_each_wants_a_token_and_a_body_that_fits(here: ReceiverHere, path: str) -> None:
    assert ask(here, path, {}, token="wrong").status_code == 401
    assert ask(here, path, {"no_such_field": 1}).status_code == 400
    assert ask(here, path, []).status_code == 400


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("pause", {"repository": "Not One"}, 400, "write group/project, or * for all"),
        ("pause", {"repository": "studio/gmae-server"}, 409, f"did you mean {REPOSITORY}?"),
        ("pause", {"repository": "a/b"}, 409, f"known are: {REPOSITORY}"),
        ("resume", {"repository": ""}, 400, "write group/project, or * for all"),
        ("rollback", {"app": APP, "channel": "prod"}, 409, "moves no version prod"),
        ("prune", {"app": APP}, 409, f"no rule of the app {APP} has `keep`"),
        ("rollback", {"app": "a\0", "channel": "prod"}, 400, "$.app"),
        ("rollback", {"app": APP, "channel": "a\0"}, 400, "$.channel"),
        ("rollback", {"app": APP, "channel": "prod", "to": "a\n"}, 400, "$.to"),
        ("rollback", {"app": APP, "channel": "prod", "to": ""}, 400, "$.to"),
        ("promote", {"app": APP, "channel": ""}, 400, "$.channel"),
        ("promote", {"app": APP, "channel": "prod", "digest": "sha256:0"}, 400, "64 hexadecimal"),
        ("release", {"app": "", "channel": "prod"}, 400, "$.app"),
        ("trials", {"app": APP, "version": ""}, 400, "$.version"),
        ("prune", {"app": "a\0"}, 400, "$.app"),
        ("prune", {"app": APP, "versions": "1.0"}, 400, "$.versions"),
        ("prune", {"app": APP, "source": "page"}, 400, "$.source"),
        ("dismiss", {"all": True, "reason": "whatever"}, 400, "$.reason"),
        ("dismiss", {"all": True, "name": "a" * 101}, 400, "$.name"),
        ("dismiss", {"ids": ["a\0"]}, 400, "$.ids"),
        ("dismiss/undo", {"ids": ["a\n"]}, 400, "$.ids"),
        ("catch-up", {"missed": [MISSED | {"media_type": "a\0"}]}, 400, "media_type"),
        ("catch-up", {"missed": [MISSED | {"tag": "-"}]}, 400, "well-formed"),
        ("catch-up", {"missed": [MISSED | {"repository": "one"}]}, 400, "well-formed"),
        ("catch-up", {"missed": [MISSED | {"digest": "md5:0"}]}, 400, "well-formed"),
        ("catch-up", {"missed": [MISSED | {"pushed_at": "soon"}]}, 400, "ISO 8601"),
        ("catch-up", {"missed": [MISSED | {"pushed_at": 10**12}]}, 400, "pushed_at"),
        ("catch-up", {"missed": [MISSED] * (MAX_MISSED + 1)}, 400, "at most 500"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    here: ReceiverHere, path: str, body: Any, status: int, words: str
) -> None:
    answer = ask(here, path, body)

    assert answer.status_code == status
    assert words in answer.json()["detail"]
    assert deliveries(here, repository="one") == []


def test_a_tag_reported_twice_is_recorded_once(here: ReceiverHere) -> None:
    twice = {"missed": [MISSED | {"digest": DIGEST}] * 2}

    answer = ask(here, "catch-up", twice)

    assert answer.status_code == 202
    assert len(answer.json()["deliveries"]) == 1
    assert ask(here, "catch-up", twice).json()["deliveries"] == []


def test_what_is_paused_is_listed(here: ReceiverHere) -> None:
    assert ask(here, "pause", {"repository": "studio/lobby"}).status_code == 409
    ask(here, "deliveries", {"image": "studio/lobby:1.0"})  # no rule, but the ledger knows it now
    ask(here, "pause", {"repository": "studio/lobby"})
    headers = {"Authorization": f"Bearer {here.api_token()}"}

    answer = httpx.get(f"{here.url}/api/pauses", headers=headers, trust_env=False).json()

    assert list(answer["paused"]) == ["studio/lobby"]
    assert read_iso(answer["paused"]["studio/lobby"]) is not None  # as all times of the API
    assert ask(here, "resume", {"repository": "*"}).json() == {"resumed": True, "paused": {}}
