"""The least that a Starlette route can do: parse the JSON, answer 202."""

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def take(request: Request) -> Response:
    parsed = msgspec.json.decode(await request.body())
    return JSONResponse({"verdict": "accepted", "tag": parsed["push_data"]["tag"]}, 202)


app = Starlette(routes=[Route("/hooks/dockerhub/{token}", take, methods=["POST"])])
