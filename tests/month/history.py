"""Edgegap's sandbox with a history: what was created, moved and deleted, and when it was sent."""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from receiver.sandbox.edgegap import EdgegapSandbox


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a version. `had` is the tag that Edgegap had when the request was sent.

    Times in epoch seconds. `at` is later than `sent` if a fault carried it out late.
    """

    what: str
    app: str
    version: str
    tag: str
    had: str
    sent: float
    at: float


_sent: ContextVar[tuple[float, str]] = ContextVar("_sent")


class RecordedEdgegap(EdgegapSandbox):
    """The sandbox; `changes` has the history of all versions. `limits`: versions of some apps."""

    def __init__(self, clock: Callable[[], float], **options: Any) -> None:
        super().__init__(clock=clock, **options)
        self.changes: list[Change] = []
        self.limits: dict[str, int] = {}
        self.all_limited: int | None = None
        self._clock = clock

    def create_version(self, app: str, body: Any) -> dict[str, Any]:
        limits = [self.limits.get(app), self.all_limited]
        self.version_limit = min((one for one in limits if one is not None), default=None)
        version = super().create_version(app, body)
        self._note("create", app, version["name"], version["docker_tag"])
        return version

    def patch_version(self, app: str, name: str, body: Any) -> dict[str, Any]:
        version = super().patch_version(app, name, body)
        self._note("move", app, name, version["docker_tag"])
        return version

    def delete_version(self, app: str, name: str) -> None:
        tag = self.find_version(app, name)["docker_tag"]
        super().delete_version(app, name)
        self._note("delete", app, name, tag)

    def recorded(self, app: ASGIApp) -> ASGIApp:
        """Wrap what stands before the sandbox, so that the history knows when a call was sent."""

        async def note_sent(scope: Scope, receive: Receive, send: Send) -> None:
            parts = scope["path"].split("/")
            had = ""
            if parts[:3] == ["", "v1", "app"] and len(parts) == 6:  # /v1/app/A/version/V
                had = str(self.versions.get((parts[3], parts[5]), {}).get("docker_tag", ""))
            _sent.set((self._clock(), had))
            await app(scope, receive, send)

        return note_sent

    def _note(self, what: str, app: str, version: str, tag: str) -> None:
        sent, had = _sent.get()
        self.changes.append(Change(what, app, version, tag, had, sent, self._clock()))
