"""Preflight: check the image before a version is created, with the login that Edgegap will use.

Docker Hub's webhook contains neither digest nor platform, and may arrive before the image can be
pulled; Edgegap runs linux/amd64 only. An outage of Docker Hub delays a registration only for a
limited time: Edgegap verifies the image again when it creates the version.
"""

import asyncio
import time
from collections.abc import Callable

import httpx
import msgspec

from receiver.config.settings import Settings
from receiver.dockerhub.api import Answered, Hub
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.manifest import NEEDED, Platforms
from receiver.dockerhub.registry import Found, PullLimit, Registry, Seen, TagDenied, TagMissing
from receiver.edgegap.plans import Rejected
from receiver.edgegap.responses import Answer
from receiver.images import ImageReference, Login, size_text, variables_of
from receiver.logs import get_logger
from receiver.reasons import Reason, explain
from receiver.rules.rule import Rule

MAX_HOLD = 5 * 60 * 1000  # ms that an outage of Docker Hub may delay a registration
OUTAGE_REMEMBERED = 2 * MAX_HOLD  # ms after the last check that failed
UNREACHED_HOLD = 0  # ms if it is unreachable twice: most likely our own network
RETRY_SECONDS = 0.2
LOW_SHARE = 0.1  # of the pull limit
WARN_AGAIN_SECONDS = 3600.0

log = get_logger()


class ImageOk(msgspec.Struct, frozen=True):
    """The version may be created. `digest` and `size` (bytes) are None if they are not known."""

    digest: str | None = None
    notes: tuple[str, ...] = ()
    calls: tuple[Answer, ...] = ()
    size: int | None = None


class ImagePending(msgspec.Struct, frozen=True):
    """The registry has no such tag yet."""

    calls: tuple[Answer, ...] = ()


class ImageRejected(msgspec.Struct, frozen=True):
    """The image cannot be registered until a person changes something."""

    parking: Rejected
    calls: tuple[Answer, ...] = ()
    digest: str | None = None


class DockerHubOut(msgspec.Struct, frozen=True):
    """Docker Hub gave no usable response; retry, but delay at most `longest` ms in total.

    `lasted`: ms since the outage began; `asked`: ms that Docker Hub asks to wait.
    """

    detail: str
    longest: int
    lasted: int = 0
    asked: int = 0
    calls: tuple[Answer, ...] = ()


Findings = ImageOk | ImagePending | ImageRejected | DockerHubOut


class Outage(msgspec.Struct, frozen=True):
    """An outage of Docker Hub: its start (epoch ms), and the error of the last check.

    `pull_limit`: Docker Hub answered 429, as it does when the login has no pulls left.
    """

    since: int
    detail: str
    pull_limit: bool = False


class Preflight:
    """Checks images, in the registry and in Docker Hub's API."""

    def __init__(
        self, registry: Registry, hub: Hub, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = registry
        self.hub = hub
        self._clock = clock
        self._out_since: float | None = None
        self._out_last = 0.0
        self._out_detail = ""
        self._warned_low: float | None = None

    async def check(self, image: ImageReference, rule: Rule) -> Findings:
        """Check the image: does it exist, may we pull it, can Edgegap run it."""
        began = time.monotonic()
        try:
            seen = await self._see(image, rule.login)
        except DockerHubUnavailable as error:
            self._warn_of_low_limit()
            return self._out(error, _call(image, None, str(error), began))
        call = _call(image, *_status_of(seen), began)
        self._warn_of_low_limit()
        if isinstance(seen, TagMissing):
            self._out_since = None
            return ImagePending((call,))
        if isinstance(seen, TagDenied):
            self._out_since = None
            return ImageRejected(_denied(seen, image, rule), (call,))
        try:
            platforms, note, size = await self._platforms(image, seen, rule.login)
        except DockerHubUnavailable as error:
            self._warn_of_low_limit()
            return self._out(error, call)
        self._out_since = None
        if platforms is not None:
            parking = _unfit(platforms, image)
            if parking is not None:
                return ImageRejected(parking, (call,), seen.digest)
            note = platforms.note
        return ImageOk(seen.digest, (note,), (call,), size)

    async def _see(self, image: ImageReference, login: Login | None) -> Seen:
        """Look the tag up; if Docker Hub is unreachable, try a second time."""
        try:
            return await self.registry.resolve(image.repository, image.tag, login)
        except DockerHubUnavailable as error:
            if error.connected:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        return await self.registry.resolve(image.repository, image.tag, login)

    async def _platforms(
        self, image: ImageReference, found: Found, login: Login | None
    ) -> tuple[Platforms | None, str, int | None]:
        """Return the platforms, or why they are not known, and the size.

        They are from the Hub API if its digest is the same: that costs no pull.
        """
        try:
            record = await self.hub.tag(image.repository, image.tag, login)
        except DockerHubUnavailable:
            record = None
        if found.digest is None:
            recorded = record.platforms if record is not None else None
            return recorded, "the registry returned no digest, so the platforms are not known", None
        size = None
        if record is not None and record.digest == found.digest:
            size = record.size
            if record.platforms is not None:
                return record.platforms, "", size
        return await self.registry.platforms(image.repository, found.digest, login), "", size

    @property
    def outage(self) -> Outage | None:
        """The outage of Docker Hub at the last check, unless that was long ago.

        A delayed registration is tried again every few minutes, which ends the outage here.
        """
        now = self._clock()
        if self._out_since is None or (now - self._out_last) * 1000 > OUTAGE_REMEMBERED:
            return None
        ago = int((now - self._out_since) * 1000)
        since = time.time_ns() // 1_000_000 - ago
        return Outage(since, self._out_detail, pull_limit=self.registry.limits.met)

    def _out(self, error: DockerHubUnavailable, call: Answer) -> DockerHubOut:
        """Count the age of the outage: later registrations wait only for the rest of the limit."""
        now = self._clock()
        if self._out_since is None or (now - self._out_last) * 1000 > MAX_HOLD:
            self._out_since = now  # after this time it is a new outage
            log.warning("docker_hub_unavailable", error=str(error))
        self._out_last, self._out_detail = now, str(error)
        return DockerHubOut(
            str(error),
            longest=MAX_HOLD if error.connected else UNREACHED_HOLD,
            lasted=int((now - self._out_since) * 1000),
            asked=int((error.wait or 0) * 1000),
            calls=(call,),
        )

    def _warn_of_low_limit(self) -> None:
        limit, now = self.registry.limits.last, self._clock()
        if self.registry.limits.met:
            limit = PullLimit(limit.limit if limit else 0, 0, limit.window_seconds if limit else 0)
        if limit is None or limit.remaining > limit.limit * LOW_SHARE:
            return
        if self._warned_low is None or now - self._warned_low >= WARN_AGAIN_SECONDS:
            self._warned_low = now
            log.warning(
                "pull_limit_low",
                remaining=limit.remaining,
                limit=limit.limit,
                window_seconds=limit.window_seconds,
                remember="Edgegap's own pulls have the same kind of limit; a paid Docker Hub plan "
                "removes it.",
            )


def preflight_over(
    http: httpx.AsyncClient, settings: Settings, *, answered: Answered | None = None
) -> Preflight:
    """Return a preflight for the registry and API that the settings name."""
    registry = Registry(http, settings.registry_url, settings.registry_auth_url)
    return Preflight(registry, Hub(http, settings.hub_api_url, answered=answered))


def _unfit(platforms: Platforms, image: ImageReference) -> Rejected | None:
    facts = {"image": str(image), "platforms": ", ".join(platforms.names)}
    if not platforms.names and not platforms.unspecified:
        sentence = (
            f"{image} contains {platforms.contents}, not an image that can run. Push an image "
            f'under this tag, or exclude the tag in `tags` of the rule: "!{image.tag}".'
        )
        return Rejected(Reason.NOT_AN_IMAGE, sentence)
    if not platforms.runnable:
        tag = f"{image.repository}:{image.tag}"
        command = f"docker buildx build --platform {NEEDED} -t {tag} --push ."
        sentence = explain(Reason.NOT_AMD64, command=command, **facts)
        return Rejected(Reason.NOT_AMD64, sentence)
    return None


def too_large(image: ImageReference, rule: Rule, size: int | None) -> Rejected | None:
    """Return why an image of this size is parked; None if the rule allows it."""
    if size is None or rule.max_image is None or size <= rule.max_image:
        return None
    facts = {"image": str(image), "rule": rule.name}
    facts |= {"detail": size_text(size), "limit": size_text(rule.max_image)}
    return Rejected(Reason.IMAGE_TOO_LARGE, explain(Reason.IMAGE_TOO_LARGE, **facts))


def _denied(seen: TagDenied, image: ImageReference, rule: Rule) -> Rejected:
    login = variables_of(rule.login)
    facts = {"detail": seen.detail, "login": login, "repository": image.repository}
    if seen.login_refused:
        reason = Reason.REGISTRY_LOGIN_REFUSED
    elif rule.login is None:
        reason = Reason.REGISTRY_LOGIN_MISSING
    else:
        reason = Reason.REGISTRY_RIGHT_MISSING
    return Rejected(reason, explain(reason, **facts))


def _status_of(seen: Seen) -> tuple[int | None, str]:
    match seen:
        case Found(digest=digest):
            return 200, digest or ""
        case TagMissing():
            return 404, "no such tag"
        case TagDenied(detail=detail):
            return 401, detail


def _call(image: ImageReference, status: int | None, message: str, began: float) -> Answer:
    return Answer(
        method="HEAD",
        path=f"docker.io/v2/{image.repository}/manifests/{image.tag}",
        status=status,
        message=message,
        milliseconds=(took := int((time.monotonic() - began) * 1000)),
        at=time.time_ns() // 1_000_000 - took,
    )
