"""Preflight: before a version is made, look at the image itself, with the login Edgegap will use.

Docker Hub tells neither digest nor platform and fires before the image can always be pulled;
Edgegap runs linux/amd64 only. An outage of Docker Hub holds a registration back for a while only:
Edgegap verifies the image once more when it makes the version.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import Hub
from receiver.dockerhub.manifest import NEEDED, Platforms
from receiver.dockerhub.pull_limits import PullLimit
from receiver.dockerhub.registry import Denied, Found, NotThere, Registry, Seen
from receiver.edgegap.answers import Answer
from receiver.edgegap.versions import Parking
from receiver.explanations import explain
from receiver.images import ImageReference
from receiver.logs import get_logger
from receiver.reasons import Reason
from receiver.rules import Login, Rule
from receiver.settings import Settings

LONGEST_HOLD = 5 * 60 * 1000  # ms a registration is held back by an outage of Docker Hub
UNREACHED_HOLD = 0  # ms where it cannot be reached at all, twice: most likely our own network
ONCE_MORE_SECONDS = 0.2
LOW_SHARE = 0.1  # of the pull limit
TELL_AGAIN_SECONDS = 3600.0

log = get_logger()


@dataclass(frozen=True, slots=True)
class Cleared:
    """Nothing stands against making the version. `digest` is None where it is not known."""

    digest: str | None = None
    notes: tuple[str, ...] = ()
    calls: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class NotYet:
    """The registry has no such tag yet."""

    calls: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """Something stands against it until a person changes it."""

    parking: Parking
    calls: tuple[Answer, ...] = ()
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Out:
    """Docker Hub could not tell; try again, but hold back no longer than `longest` ms in all.

    Of these the outage itself has `lasted` some; `asked`: ms that Docker Hub asks to wait.
    """

    detail: str
    longest: int
    lasted: int = 0
    asked: int = 0
    calls: tuple[Answer, ...] = ()


@dataclass(frozen=True, slots=True)
class Outage:
    """Docker Hub cannot be asked: since when (epoch ms), and what the last look met."""

    since: int
    detail: str


Findings = Cleared | NotYet | Stopped | Out


class Preflight:
    """Looks at images, in the registry and in Docker Hub's API."""

    def __init__(
        self, registry: Registry, hub: Hub, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.registry = registry
        self.hub = hub
        self._clock = clock
        self._out_since: float | None = None
        self._out_last = 0.0
        self._out_detail = ""
        self._told_low: float | None = None

    async def look(self, image: ImageReference, rule: Rule) -> Findings:
        """Look at the image: is it there, may we pull it, can Edgegap run it."""
        began = time.monotonic()
        try:
            seen = await self._see(image, rule.login)
        except Unavailable as error:
            self._tell_low_limit()
            return self._out(error, _call(image, None, str(error), began))
        call = _call(image, *_told(seen), began)
        self._tell_low_limit()
        if isinstance(seen, NotThere):
            self._out_since = None
            return NotYet((call,))
        if isinstance(seen, Denied):
            self._out_since = None
            return Stopped(_denied(seen, image, rule), (call,))
        try:
            platforms, note = await self._platforms(image, seen, rule.login)
        except Unavailable as error:
            self._tell_low_limit()
            return self._out(error, call)
        self._out_since = None
        if platforms is not None:
            parking = _unfit(platforms, image)
            if parking is not None:
                return Stopped(parking, (call,), seen.digest)
            note = f"built for {', '.join(platforms.names) or 'a platform it does not tell'}"
        return Cleared(seen.digest, (note,), (call,))

    async def _see(self, image: ImageReference, login: Login | None) -> Seen:
        """See the tag; where nothing could be reached, once more: it may be a hiccup."""
        try:
            return await self.registry.see(image.repository, image.tag, login)
        except Unavailable as error:
            if error.connected:
                raise
            await asyncio.sleep(ONCE_MORE_SECONDS)
        return await self.registry.see(image.repository, image.tag, login)

    async def _platforms(
        self, image: ImageReference, found: Found, login: Login | None
    ) -> tuple[Platforms | None, str]:
        """Return the platforms, from the Hub API where it agrees on the digest: costs no pull."""
        try:
            record = await self.hub.tag(image.repository, image.tag, login)
        except Unavailable:
            record = None
        if found.digest is None:
            told = record.platforms if record is not None else None
            return told, "the registry told no digest, so the platforms are not known"
        if record is not None and record.digest == found.digest and record.platforms is not None:
            return record.platforms, ""
        return await self.registry.platforms(image.repository, found.digest, login), ""

    @property
    def outage(self) -> Outage | None:
        """The outage of Docker Hub that the last look met, None if it met none."""
        if self._out_since is None:
            return None
        ago = int((self._clock() - self._out_since) * 1000)
        return Outage(since=time.time_ns() // 1_000_000 - ago, detail=self._out_detail)

    def _out(self, error: Unavailable, call: Answer) -> Out:
        """Take the outage's own age into account: what comes later need not wait as long again."""
        now = self._clock()
        if self._out_since is None or (now - self._out_last) * 1000 > LONGEST_HOLD:
            self._out_since = now  # one met so long after the last is another outage
            log.warning("docker_hub_unavailable", error=str(error))
        self._out_last, self._out_detail = now, str(error)
        return Out(
            str(error),
            longest=LONGEST_HOLD if error.connected else UNREACHED_HOLD,
            lasted=int((now - self._out_since) * 1000),
            asked=int((error.wait or 0) * 1000),
            calls=(call,),
        )

    def _tell_low_limit(self) -> None:
        limit, now = self.registry.limits.last, self._clock()
        if self.registry.limits.met:
            limit = PullLimit(limit.limit if limit else 0, 0, limit.window_seconds if limit else 0)
        if limit is None or limit.remaining > limit.limit * LOW_SHARE:
            return
        if self._told_low is None or now - self._told_low >= TELL_AGAIN_SECONDS:
            self._told_low = now
            log.warning(
                "pull_limit_low",
                remaining=limit.remaining,
                limit=limit.limit,
                window_seconds=limit.window_seconds,
                remember="Edgegap's own pulls meet the same kind of limit; a paid Docker Hub plan "
                "lifts it.",
            )


def build_command(image: ImageReference) -> str:
    """Return the command that builds and pushes the image so that Edgegap can run it."""
    return f"docker buildx build --platform {NEEDED} -t {image.repository}:{image.tag} --push ."


def preflight_over(http: httpx.AsyncClient, settings: Settings) -> Preflight:
    """Return a preflight over the registry and API that the settings name."""
    registry = Registry(http, settings.registry_url, settings.registry_auth_url)
    return Preflight(registry, Hub(http, settings.hub_api_url))


def _unfit(platforms: Platforms, image: ImageReference) -> Parking | None:
    facts = {"image": str(image), "platforms": ", ".join(platforms.names)}
    if not platforms.names and not platforms.untold:
        sentence = f"{image} holds only attestations or another artifact. Push an image there."
        return Parking(Reason.NOT_AN_IMAGE, sentence)
    if not platforms.runnable:
        sentence = explain(Reason.NOT_AMD64, command=build_command(image), **facts)
        return Parking(Reason.NOT_AMD64, sentence)
    return None


def _denied(seen: Denied, image: ImageReference, rule: Rule) -> Parking:
    login = rule.login.variables if rule.login else "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
    facts = {"detail": seen.detail, "login": login, "repository": image.repository}
    if seen.login_refused:
        reason = Reason.REGISTRY_LOGIN_REFUSED
    elif rule.login is None:
        reason = Reason.REGISTRY_LOGIN_MISSING
    else:
        reason = Reason.REGISTRY_RIGHT_MISSING
    return Parking(reason, explain(reason, **facts))


def _told(seen: Seen) -> tuple[int | None, str]:
    match seen:
        case Found(digest=digest):
            return 200, digest or ""
        case NotThere():
            return 404, "no such tag"
        case Denied(detail=detail):
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
