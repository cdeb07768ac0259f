"""The two health endpoints: whether it lives, and whether it could record a delivery now."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.upkeep import health
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, RULE, until


@pytest.fixture
def here(edgegap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReceiverHere]:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    with receiver_here(tmp_path, edgegap, config=RULE + NO_CATCH_UP) as receiver:
        yield receiver


def asked(receiver: ReceiverHere, path: str, *, token: str = "") -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = httpx.get(receiver.url + path, headers=headers, trust_env=False)
    return answer.status_code, answer.json()


def test_a_healthy_receiver_lives_and_is_ready(here: ReceiverHere) -> None:
    assert asked(here, "/livez") == (200, {"alive": True})
    assert asked(here, "/readyz") == (200, {"ready": True, "degraded": []})


def test_a_refused_token_degrades_but_the_receiver_stays_ready(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.token_state = "refused"
    here.push("1.0.0")

    degraded = until(lambda: asked(here, "/readyz")[1]["degraded"])

    assert asked(here, "/readyz")[0] == 200
    assert degraded == ["token"]
    (answer,) = asked(here, "/readyz", token=here.api_token())[1]["degraded"]
    assert answer.startswith("token: ")
    assert "EDGEGAP_TOKEN" in answer


def test_readyz_shows_no_details_without_an_api_token(here: ReceiverHere) -> None:
    """Paths, addresses and lines of the configuration were shown to anybody on the Internet."""
    (here.folder / "receiver.db").rename(here.folder / "elsewhere")

    status, answer = asked(here, "/readyz", token="made up")
    in_full = asked(here, "/readyz", token=here.api_token())[1]

    assert (status, answer["ready"]) == (503, False)
    assert str(here.folder) not in str(answer)
    assert f"{here.folder}/receiver.db is gone" in in_full["detail"]


def test_a_restart_tries_a_refused_token_at_once(
    here: ReceiverHere, sandbox: EdgegapSandbox, edgegap: str
) -> None:
    sandbox.token_state = "refused"
    delivery = here.push("1.0.0")
    until(lambda: asked(here, "/readyz")[1]["degraded"])
    here.stop()
    sandbox.token_state = "good"

    with receiver_here(here.folder, edgegap, config=RULE + NO_CATCH_UP) as again:
        assert again.ended(delivery)["outcome"] == "created"
        assert asked(again, "/readyz") == (200, {"ready": True, "degraded": []})


def test_a_dead_loop_is_no_life_but_pushes_are_still_taken(here: ReceiverHere) -> None:
    async def die() -> None:
        loops = here.service.worker._loops
        loops[0].cancel()
        await asyncio.wait(loops[:1])

    here.inside(die)

    status, answer = asked(here, "/livez")
    assert (status, answer["code"]) == (503, "worker_stopped")
    status, answer = asked(here, "/readyz")
    assert (status, answer["ready"]) == (200, True)
    assert any("worker" in one for one in answer["degraded"])
    here.push("1.0.0")


def test_the_try_of_the_ledger_is_remembered_for_a_while(
    here: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 3600.0)
    assert asked(here, "/readyz")[0] == 200
    (here.folder / "receiver.db").rename(here.folder / "elsewhere")

    assert asked(here, "/readyz")[0] == 200

    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    assert asked(here, "/readyz")[0] == 503
    (here.folder / "elsewhere").rename(here.folder / "receiver.db")
    assert asked(here, "/readyz")[0] == 200
