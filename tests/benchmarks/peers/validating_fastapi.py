"""A FastAPI route as its documentation teaches: a model of what matters validates the body."""

from fastapi import FastAPI
from pydantic import BaseModel


class PushData(BaseModel):
    tag: str | None = None
    pusher: str | None = None
    pushed_at: int | None = None
    media_type: str | None = None


class Repository(BaseModel):
    repo_name: str
    namespace: str
    name: str


class Body(BaseModel):
    push_data: PushData
    repository: Repository


app = FastAPI()


@app.post("/hooks/dockerhub/{token}", status_code=202)
async def take(token: str, body: Body) -> dict[str, str | None]:
    return {"verdict": "accepted", "tag": body.push_data.tag}
