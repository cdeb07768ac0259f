"""An Edgegap that kills the receiver that calls it, at a step of a trial or of a move."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.sandbox.calls import is_call, read_body, replay
from receiver.sandbox.edgegap import EdgegapSandbox

STEPS = {
    "deploy": ("POST", "/v2/deployments"),
    "status": ("GET", "/v1/status/"),
    "logs": ("GET", "/container-logs"),
    "metrics": ("GET", "/v1/metrics/"),
    "stop": ("DELETE", "/v1/stop/"),
    "look at prod": ("GET", "/version/prod"),
    "move staging": ("PATCH", "/version/staging"),
    "move prod": ("PATCH", "/version/prod"),
}
AMONG = 2  # calls of a step, of which one is killed


class MovesNoted(EdgegapSandbox):
    """A sandbox that notes each image that a version was really given, whatever was answered."""

    def __init__(self, *, apps: tuple[str, ...]) -> None:
        self.given: list[tuple[str, str]] = []
        super().__init__(apps=apps)

    def create_version(self, app: str, body: Any) -> dict[str, Any]:
        """Create it, and note its image."""
        version = super().create_version(app, body)
        self.given.append((str(version["name"]), str(version["docker_tag"])))
        return version

    def patch_version(self, app: str, name: str, body: Any) -> dict[str, Any]:
        """Change it, and note its image."""
        version = super().patch_version(app, name, body)
        self.given.append((name, str(version["docker_tag"])))
        return version

    def tags_of(self, name: str) -> list[str]:
        """The tags that a version was given, in order."""
        return [tag for version, tag in self.given if version == name]


class KilledAtSteps:
    """Serves each replica under a path of its own, and kills it at one of some calls of a step.

    The first call of a step is one of them, because some steps have few. The call is carried out
    all the same: the receiver dies before it knows, or right after it read the response. `kill`
    returns whether the replica was running.
    """

    def __init__(self, app: ASGIApp, rng: random.Random, times: int) -> None:
        self._app, self._rng = app, rng
        self._calls: Counter[str] = Counter()
        self._at = {
            step: {0, *(AMONG * turn + rng.randrange(AMONG) for turn in range(1, times))}
            for step in STEPS
        }
        self.killed: Counter[str] = Counter(dict.fromkeys(STEPS, 0))
        self.kill: Callable[[int], bool] = lambda _: False

    def url(self, base: str, replica: int) -> str:
        """The address of Edgegap for a replica."""
        return f"{base}/{replica}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, and kill the replica that made it if it is its turn."""
        if not is_call(scope):
            await self._app(scope, receive, send)
            return
        replica, _, rest = scope["path"].removeprefix("/").partition("/")
        path = f"/{rest}"
        step = self._due(scope["method"], path)
        body = await read_body(receive)
        early = self._rng.random() < 0.5
        if step is not None and early:
            self._kill(step, int(replica))
        inner = {**scope, "path": path, "raw_path": path.encode()}
        await self._app(inner, replay(body, receive), send)
        if step is not None and not early:
            self._kill(step, int(replica))

    def _due(self, method: str, path: str) -> str | None:
        for step, (of, part) in STEPS.items():
            if method == of and part in path:
                self._calls[step] += 1
                return step if self._calls[step] - 1 in self._at[step] else None
        return None

    def _kill(self, step: str, replica: int) -> None:
        if self.kill(replica):
            self.killed[step] += 1
        else:  # it is starting: the next call instead
            self._at[step].add(self._calls[step])
