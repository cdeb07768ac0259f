"""The settings of the Docker Hub fake; each may be changed at any time."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

import msgspec


@dataclass(kw_only=True, eq=False, repr=False)
class Switches:
    """How Docker Hub behaves. By default there are no problems.

    The auth server:

    - `realm`: the challenge's realm, if it is not this server's `/token`
    - `challenge`: the whole Www-Authenticate header instead; "" omits it
    - `service`: the registry's service name
    - `expires_in`: lifetime of a registry token in seconds; None omits it, which means 60
    - `token_names`: the keys under which the token is returned
    - `opaque_tokens`: tokens are not JWTs
    - `organization_push`: how an organization token without push rights is denied

    The registry:

    - `anonymous_pull_limit`: pulls in 6 hours; None is no limit and no headers
    - `heads_are_limited`: an exhausted limit also refuses HEAD requests
    - `abuse_limited`: every call is refused with a short 429
    - `content_digest`: the value of Docker-Content-Digest; "" omits it
    - `tampered`: manifests and blobs do not match their digests
    - `redirect_blobs_to`: another base URL of this app; "" is this base URL
    - `cdn_hops`: number of further redirects before the blob; None never ends
    - `blob_location`: the Location of a blob's redirect

    The Hub API:

    - `api_limit`, `api_window`: calls allowed per window in seconds; None is no limit
    - `api_retry_after`: the header of a 429 with the time to retry
    - `api_retry_after_as`: its value: a UNIX time in whole seconds (in the past for the last
      fraction), the seconds left (0 for the last fraction), a UNIX time in milliseconds, or an
      HTTP date; Docker's documents and reports have all but the last
    - `api_expires_in`: lifetime of a bearer token in seconds
    - `next_base`: the scheme and host of `next` and `previous`
    - `last_updated_means`: which tags come first with `ordering=last_updated`: the newest on the
      Hub's own pages, the oldest in its document of another listing
    - `endless_pages`: there is always a next page, and the last is repeated
    - `webhooks_shown_to`: who may list the webhooks of a repository; Docker does not say
    - `webhook_slugs`: the list of webhooks has the slug of each, by which it can be deleted
    - `webhooks_lost`: a webhook is created with 201, but is not in the list

    All of them:

    - `latency`: seconds before each response
    - `clock_ahead`: seconds by which the clock of the Date header is ahead of the real clock;
      None omits the header
    """

    realm: str | None = None
    challenge: str | None = None
    service: str = "registry.docker.io"
    expires_in: int | None = 300
    token_names: tuple[str, ...] = ("token", "access_token")
    opaque_tokens: bool = False
    organization_push: Literal["refused", "reduced"] = "refused"
    anonymous_pull_limit: int | None = 100
    heads_are_limited: bool = False
    abuse_limited: bool = False
    content_digest: str | None = None
    tampered: bool = False
    redirect_blobs_to: str | None = None
    cdn_hops: int | None = 0
    blob_location: str | None = None
    api_limit: int | None = 180
    api_window: float = 60.0
    api_retry_after: Literal["X-Retry-After", "Retry-After"] = "X-Retry-After"
    api_retry_after_as: Literal["unix", "seconds", "milliseconds", "date"] = "unix"
    api_expires_in: int = 600
    next_base: str | None = None
    last_updated_means: Literal["newest", "oldest"] = "newest"
    endless_pages: bool = False
    webhooks_shown_to: Literal["members", "administrators"] = "members"
    webhook_slugs: bool = True
    webhooks_lost: bool = False
    latency: float = 0.0
    clock_ahead: float | None = None

    def turn(self, switches: dict[str, Any]) -> None:
        """Set switches from JSON; raises ValueError, and sets none, if any is invalid."""
        kinds = get_type_hints(Switches)
        known = {setting.name for setting in fields(Switches)}
        if unknown := switches.keys() - known:
            raise ValueError(f"no such state: {', '.join(sorted(unknown))}")
        try:
            read = {name: msgspec.convert(value, kinds[name]) for name, value in switches.items()}
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        for name, value in read.items():
            setattr(self, name, value)
