"""An app's versions, listed at most once a minute, to choose the version to copy settings from."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from http import HTTPStatus

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.fields import OFTEN_NONE
from receiver.edgegap.listing import partly_listed
from receiver.edgegap.plans import made_at, newest
from receiver.edgegap.responses import Answer, Body

FRESH_SECONDS = 60.0
NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Source:
    """The version to copy settings from, None if there is none; and the calls that found it.

    `skipped` names the versions that were left out on request, newest first; `note` says what
    is uncertain about it.
    """

    version: Body | None = field(repr=False)
    calls: tuple[Answer, ...] = ()
    skipped: tuple[str, ...] = ()
    note: str = ""


class VersionCache:
    """Finds the version that a rule copies its settings from."""

    def __init__(self, client: EdgegapClient) -> None:
        self._client = client
        self._versions: dict[str, tuple[float, dict[str, Body]]] = {}
        self._asking: dict[str, asyncio.Lock] = {}

    async def source(
        self,
        app: str,
        copy_from: str,
        *,
        of: str,
        without: Collection[str] = (),
        before: Body | None = None,
    ) -> Source:
        """Return the named version, or the app's newest. A failed call is the last of `calls`.

        `of` is the version to create: the newest is never `of` itself or one of `without`. With
        `before`, the result is not newer than that version.
        """
        if copy_from != NEWEST:
            answer = await self._client.get_version(app, copy_from)
            return Source(answer.body if answer.ok else None, (answer,))
        async with self._asking.setdefault(app, asyncio.Lock()):
            calls: tuple[Answer, ...] = ()
            note = ""
            known = self._versions.get(app)
            if known is None or time.monotonic() - known[0] >= FRESH_SECONDS:
                listing = await self._client.versions(app)
                calls = (listing.answer,)
                if not listing.answer.ok:
                    return Source(None, calls)
                known = time.monotonic(), {str(row.get("name")): row for row in listing.rows}
                self._versions[app] = known
                note = "" if listing.complete else partly_listed(listing)
        limit = made_at(before) if before is not None else 0
        others = {
            name: one
            for name, one in known[1].items()
            if name != of and (not limit or made_at(one) <= limit)
        }
        names = others.keys() & set(without)
        skipped = sorted(names, key=lambda name: (-made_at(others[name]), name))
        found = newest(one for name, one in others.items() if name not in without)
        if found is not None and not found.keys() >= OFTEN_NONE:
            # The row of a list may hold less than the version itself.
            answer = await self._client.get_version(app, found["name"])
            if not answer.says(HTTPStatus.NOT_FOUND):
                calls = (*calls, answer)
            if answer.ok and answer.body is not None:
                found = known[1][found["name"]] = answer.body
        return Source(found, calls, tuple(skipped), note)

    def made(self, app: str, version: Body) -> None:
        """Add a version that was just created: its settings may be copied at once."""
        known = self._versions.get(app)
        if known is not None:
            known[1][str(version.get("name"))] = version

    def forget(self) -> None:
        """List the versions again next time: a person may have corrected something."""
        self._versions.clear()
