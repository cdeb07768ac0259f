"""`receiver push --dry-run`: run the real attempt with a client that sends no write.

The client stops the attempt before its first write. The ledger is read, so that the order and the
hold of a channel and repeated pushes have the same effect as in a real push.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.config.settings import Settings
from receiver.dockerhub.webhook import Push
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.copied_settings import listed
from receiver.edgegap.plans import masked
from receiver.edgegap.responses import Answer, Body, version_path
from receiver.edgegap.version_cache import VersionCache
from receiver.images import ImageReference
from receiver.ledger.claims import Claimed, with_what_is_known
from receiver.ledger.deliveries import Reported, push_time_of
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.pipeline.attempt import Attempt
from receiver.pipeline.attempt_ledger import AttemptLedger
from receiver.pipeline.channels import ChannelAttempt
from receiver.pipeline.preflight import Preflight, preflight_over
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Match, Mode, channels_of, rule_on
from receiver.service import connected
from receiver.upkeep.operations import manual_push

LAST_ID = "r~"  # sorts after every other id


class PlannedRequest(msgspec.Struct, frozen=True):
    """A request that would be sent."""

    app: str
    version: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: Body
    notes: tuple[str, ...]


class NothingToSend(msgspec.Struct, frozen=True):
    """A registration that would be done without a write: `method` is null."""

    app: str
    version: str
    method: None
    outcome: Outcome
    sentence: str
    notes: tuple[str, ...]


class WouldPark(msgspec.Struct, frozen=True):
    """A registration that would be parked or would wait."""

    app: str
    version: str
    reason: Reason | None
    sentence: str


class Preview(msgspec.Struct, frozen=True):
    """The result of a push of the image."""

    image: str
    verdict: Verdict
    reason: Reason | None
    sentence: str
    requests: tuple[PlannedRequest | NothingToSend, ...]
    parked: tuple[WouldPark, ...]


class _WouldSend(Exception):
    def __init__(self, method: str, path: str, body: Body) -> None:
        super().__init__(method, path)
        self.method = method
        self.path = path
        self.body = body


class _ReadOnlyClient(EdgegapClient):
    """Sends reads to Edgegap, and raises instead of sending a write."""

    async def create(self, app: str, body: Mapping[str, Any]) -> Answer:
        raise _WouldSend("POST", version_path(app), body)

    async def update(self, app: str, version: str, body: Mapping[str, Any]) -> Answer:
        raise _WouldSend("PATCH", version_path(app, version), body)

    async def call(self, method: str, path: str, **more: Any) -> Answer:
        if method != "PUT":
            return await super().call(method, path, **more)
        profile = unquote(path.partition("/pull-profile/")[2].partition("/")[0])
        return Answer(method, path, HTTPStatus.OK, body={"pull_profile": profile})


async def preview_push(settings: Settings, image: ImageReference) -> Preview:
    """Return the result of a push of the image: its verdict and each request."""
    with closing(Ledger(settings.database_url)) as ledger:
        existing = ledger if _is_there(ledger) else None
        async with connected(settings, _ReadOnlyClient) as (client, http):
            preflight = preflight_over(http, settings)
            push = await manual_push(preflight.hub, settings.rules, image)
            return await _DryRun(settings, client, preflight, existing, push).run(image)


def _is_there(ledger: Ledger) -> bool:
    """Open the ledger for reading; return False if it does not exist. Raises LedgerError."""
    if ledger.path is not None and not ledger.path.exists():
        return False
    ledger.open_readonly()
    return True


class _DryRun:
    def __init__(
        self,
        settings: Settings,
        client: EdgegapClient,
        preflight: Preflight,
        ledger: Ledger | None,
        push: Push,
    ) -> None:
        self._settings = settings
        self._client = client
        self._catalogue = VersionCache(client)
        self._preflight = preflight
        self._ledger = ledger
        self._push = push
        self._requests: list[PlannedRequest | NothingToSend] = []
        self._parked: list[WouldPark] = []

    async def run(self, image: ImageReference) -> Preview:
        ruling = rule_on(self._push, self._settings.rules)
        for match in ruling.matches:
            if match.invalid is not None:
                reason = Reason.VERSION_NAME_INVALID
                self._parked.append(WouldPark(match.app, match.version, reason, match.invalid))
                continue
            attempt = await self._attempt(match, image)
            if await self._add(match, attempt) and match.mode is Mode.CREATE:
                await self._follow(match, attempt, image)
        return Preview(
            image=str(image),
            verdict=ruling.verdict,
            reason=ruling.reason,
            sentence=ruling.sentence,
            requests=tuple(self._requests),
            parked=tuple(self._parked),
        )

    async def _follow(self, match: Match, version: Attempt, image: ImageReference) -> None:
        """Plan the channels that move once the push's own version exists."""
        rule = self._settings.rule_named(match.rule)
        for channel in channels_of(rule, image.tag) if rule is not None else ():
            attempt = await self._attempt(channel, image, of=version)
            await self._add(channel, attempt)

    async def _attempt(
        self, match: Match, image: ImageReference, of: Attempt | None = None
    ) -> Attempt:
        claimed = await self._claimed(match, image)
        if of is not None:
            claimed = replace(claimed, digest=of.digest, overwritten=of.overwritten)
        kind = ChannelAttempt if match.mode is Mode.CHANNEL else Attempt
        return kind(
            claimed, self._settings, self._client, self._catalogue,
            preflight=self._preflight, ledger=AttemptLedger(self._ledger, claimed, _now),
        )  # fmt: skip

    async def _claimed(self, match: Match, image: ImageReference) -> Claimed:
        claimed = Claimed(
            id=LAST_ID, rule=match.rule, app=match.app, version=match.version, mode=match.mode,
            image=image, push_time=self._push.pushed_at or _now(), attempt=1, fence=0,
            waited=WaitState(), created_at=_now(),
        )  # fmt: skip

        def known(tx: Tx) -> Claimed:
            reported = Reported(image.repository, image.tag, self._push.pushed_at, tx.now)
            push_time = push_time_of(tx, match, reported)
            return with_what_is_known(tx, replace(claimed, push_time=push_time))

        return claimed if self._ledger is None else await self._ledger.read(known)

    async def _add(self, match: Match, attempt: Attempt) -> bool:
        """Add the result of the attempt; return False if the attempt would not succeed."""
        try:
            result = await attempt.run()
        except _WouldSend as would:
            if would.method == "POST":
                with_image_at_edgegap = {"ports": [], "envs": [], **would.body}
                self._catalogue.made(match.app, with_image_at_edgegap)
            self._requests.append(
                PlannedRequest(
                    app=match.app,
                    version=match.version,
                    method=would.method,
                    url=f"{self._settings.edgegap_base_url}{would.path}",
                    headers={"Authorization": "token ***", "Content-Type": "application/json"},
                    body=masked(would.body),
                    notes=(*attempt.notes, *self._links(match, would.method)),
                )
            )
            return True
        outcome, sentence = result.outcome, result.sentence
        if result.state is State.DONE and outcome is not None:
            known = sentence or f"Edgegap already has this version: {outcome}."
            notes = tuple(attempt.notes)
            self._requests.append(
                NothingToSend(match.app, match.version, None, outcome, known, notes)
            )
            return True
        self._parked.append(WouldPark(match.app, match.version, result.reason, sentence))
        return False

    def _links(self, match: Match, method: str) -> list[str]:
        """Return the note about the pull profiles of a version, which follow its POST."""
        rule = self._settings.rule_named(match.rule)
        if rule is None or not rule.pull_profiles or method != "POST":
            return []
        return [f"it then gets the pull profiles {listed(rule.pull_profiles)}"]


def _now() -> int:
    return time.time_ns() // 1_000_000
