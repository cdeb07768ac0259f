"""The settings of versions, for people: from the ledger if it has them, otherwise from Edgegap."""

import asyncio
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from typing import Annotated

import msgspec

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.in_time import LATE, in_time, running_of
from receiver.edgegap.sent_settings import (
    Difference,
    Seen,
    SentSettings,
    differences,
    settings_toml,
    shown_settings,
)
from receiver.errors import ReceiverError
from receiver.ledger.ledger import Ledger
from receiver.ledger.sent_settings import sent_to
from receiver.ledger.views import App, VersionName, described
from receiver.pipeline.retry import summary_of
from receiver.secret import Secret
from receiver.timestamps import Time, format_time

SentAt = Annotated[
    Time | None,
    described("When this receiver sent these settings; null if they are as Edgegap shows them."),
]


class VersionUnknown(ReceiverError):
    """Neither the ledger nor Edgegap has the version."""


class VersionUnreadable(ReceiverError):
    """The ledger does not have the version's settings, and Edgegap does not return them now."""


class ComparedVersion(msgspec.Struct, frozen=True):
    """One of two versions that are compared."""

    version: VersionName
    image: Annotated[str, described("Its image.", "docker.io/studio/game-server:1.4.2")]
    sent_at: SentAt
    running: Annotated[
        int | None, described("Its running deployments at Edgegap; null if that is not known.", 2)
    ]


class VersionDiff(msgspec.Struct, frozen=True):
    """What differs between two versions of an app."""

    app: App
    a: ComparedVersion
    b: ComparedVersion
    differences: tuple[Difference, ...]
    not_compared: Annotated[
        tuple[str, ...],
        described(
            "What cannot be compared: values that Edgegap does not return, or hashes of another "
            "RECEIVER_SECRET_KEY."
        ),
    ]


class ExportedSettings(msgspec.Struct, frozen=True):
    """The settings of a version as they are written in receiver.toml."""

    app: App
    version: VersionName
    sent_at: SentAt
    toml: Annotated[str, described("The table [rule.settings].")]


class VersionReader(msgspec.Struct, frozen=True):
    """Reads the settings of versions; `keys` are those of the hashes."""

    ledger: Ledger
    client: EdgegapClient
    keys: Sequence[Secret]

    async def diff(self, app: str, a: str, b: str) -> VersionDiff:
        """Compare two versions; raises VersionUnknown or VersionUnreadable."""
        (one, one_at), (other, other_at), running = await asyncio.gather(
            self._read(app, a), self._read(app, b), running_of(self.client, app, (a, b))
        )
        found, unknown = differences(
            Seen(one, one_at is not None), Seen(other, other_at is not None)
        )
        first = ComparedVersion(a, one.image, one_at, running[a])
        second = ComparedVersion(b, other.image, other_at, running[b])
        return VersionDiff(app, first, second, found, unknown)

    async def export(self, app: str, version: str) -> ExportedSettings:
        """Return the settings as TOML; raises VersionUnknown or VersionUnreadable."""
        settings, at = await self._read(app, version)
        title = f"Settings of {app}/{version}, {as_of(at)}"
        return ExportedSettings(app, version, at, settings_toml(settings, title))

    async def _read(self, app: str, version: str) -> tuple[SentSettings, Time | None]:
        sent = await self.ledger.read(partial(sent_to, app=app, version=version))
        if sent is not None:
            return sent.settings, Time(sent.at)
        look = await in_time(self.client.get_version(app, version))
        if look is not None and look.ok and look.body is not None:
            return shown_settings(look.body, self.keys), None
        if look is not None and look.says(HTTPStatus.NOT_FOUND):
            raise VersionUnknown(
                f"the app {app} has no version {version} at Edgegap, and this receiver has not "
                f"created one; `receiver deliveries --app {app}` lists its own"
            )
        why = LATE if look is None else f"Edgegap did not return them ({summary_of(look)})"
        raise VersionUnreadable(
            f"the ledger does not have the settings of {app}/{version}, and {why}. Try again "
            "later; `receiver doctor` checks the token."
        )


def as_of(at: Time | None) -> str:
    """Return where settings are from, for a sentence."""
    return "as Edgegap shows them" if at is None else f"as they were sent {format_time(at)}"
