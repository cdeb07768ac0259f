"""The calls to Docker Hub's API, against answers that a test gives."""

import asyncio
import json

import httpx

from receiver.dockerhub.api import Hub
from receiver.images import Login
from receiver.secret import Secret
from tests.support.streams import Parts

LOGIN = Login("studio", Secret("hub-token"), "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN")
GAME = "studio/game-server"


def response(status: int, body: dict[str, str]) -> httpx.Response:
    return httpx.Response(status, stream=Parts([json.dumps(body).encode()]))


def test_calls_whose_token_is_refused_at_the_same_time_get_a_new_one() -> None:
    """The second call found the token removed already, and ended in a KeyError."""
    logins, refused = 0, set[str]()

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal logins
        await asyncio.sleep(0.01)  # both calls are under way
        if request.url.path == "/v2/auth/token":
            logins += 1
            return response(200, {"access_token": f"token-{logins}"})
        status = 401 if request.headers["authorization"] in refused else 404
        return response(status, {"message": "none"})

    async def calls() -> list[object]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            hub = Hub(http, "https://hub.example")
            await hub.tag(GAME, "1.0", LOGIN)
            refused.add("Bearer token-1")
            return list(
                await asyncio.gather(*(hub.tag(GAME, tag, LOGIN) for tag in ("1.1", "1.2")))
            )

    assert asyncio.run(calls()) == [None, None]
    assert logins >= 2
