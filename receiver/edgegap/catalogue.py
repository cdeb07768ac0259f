"""What an app's newest version is: asked at most once a minute, and known when we just made it."""

import asyncio
import time
from dataclasses import dataclass

from receiver.edgegap.answers import Answer, Body
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.listing import partly_listed
from receiver.edgegap.versions import newest

FRESH_SECONDS = 60.0
NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Source:
    """The version to copy settings from, None if there is none; and the calls it took.

    `note` says what is uncertain about it.
    """

    version: Body | None
    calls: tuple[Answer, ...] = ()
    note: str = ""


class Catalogue:
    """Finds the version that a rule copies its settings from."""

    def __init__(self, client: EdgegapClient) -> None:
        self._client = client
        self._newest: dict[str, tuple[float, Body | None]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def source(self, app: str, copy_from: str) -> Source:
        """Return the named version, or the app's newest. A failed call is the last of `calls`."""
        if copy_from != NEWEST:
            answer = await self._client.look(app, copy_from)
            return Source(answer.body if answer.ok else None, (answer,))
        async with self._asking.setdefault(app, asyncio.Lock()):
            known = self._newest.get(app)
            if known is not None and time.monotonic() - known[0] < FRESH_SECONDS:
                return Source(known[1])
            listing = await self._client.versions(app)
            if not listing.answer.ok:
                return Source(None, (listing.answer,))
            found = newest(listing.rows)
            self._newest[app] = (time.monotonic(), found)
            note = "" if listing.complete else partly_listed(listing)
            return Source(found, (listing.answer,), note)

    def made(self, app: str, version: Body) -> None:
        """Take note of a version just made: it counts as the newest."""
        self._newest[app] = (time.monotonic(), version)

    def forget(self) -> None:
        """Ask anew next time: a person set something right, so it may have changed."""
        self._newest.clear()
