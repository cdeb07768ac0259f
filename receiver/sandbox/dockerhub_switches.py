"""Everything about the Docker Hub stand-in that may be turned, at any time, with its default."""

from dataclasses import dataclass, fields
from typing import Any, Literal, get_type_hints

import msgspec


@dataclass(kw_only=True, eq=False, repr=False)
class Switches:
    """How Docker Hub behaves today. The defaults are its good days.

    The auth server:

    - `realm`: the challenge's realm, where it is not this server's `/token`
    - `challenge`: the whole Www-Authenticate header instead; "" leaves it out
    - `service`: the name by which the registry knows itself
    - `expires_in`: seconds a registry token holds; None says nothing of it, and 60 are meant
    - `token_names`: under which of these the token is given
    - `opaque_tokens`: tokens are no JWTs
    - `organization_push`: how an organization token is denied a push that it may not do

    The registry:

    - `anonymous_pull_limit`: in 6 hours; None is without limit, and without headers
    - `heads_are_limited`: a used-up limit refuses HEADs too
    - `abuse_limited`: every call to anything is refused, shortly
    - `content_digest`: what Docker-Content-Digest says instead; "" leaves it out
    - `tampered`: manifests and blobs are not what their digests say
    - `redirect_blobs_to`: a base URL at which this app is served too; "" is this very one
    - `cdn_hops`: so many more redirects before a blob is there; None never ends
    - `blob_location`: the Location of a blob's redirect, whatever it be

    The Hub API:

    - `api_limit`, `api_window`: calls allowed in so many seconds; None is without limit
    - `api_retry_after`: the header in which a 429 says when to come back
    - `api_retry_after_as`: its value: a UNIX time in whole seconds (in the past for the last
      fraction), the seconds left (0 for the last fraction), a UNIX time in milliseconds, or an
      HTTP date; Docker's documents and reports have all but the last
    - `api_expires_in`: seconds a bearer token holds
    - `next_base`: the scheme and host of `next` and `previous`
    - `last_updated_means`: which tags come first when `ordering=last_updated` is asked for; the
      Hub's own pages mean the newest, its document of another listing means the oldest
    - `endless_pages`: there is always a next page, and the last is given over and over

    All of them:

    - `latency`: seconds before each answer
    - `clock_ahead`: seconds by which their clock, as in the header Date, is ahead of the real
      one; None leaves the header out
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
    latency: float = 0.0
    clock_ahead: float | None = None

    def turn(self, switches: dict[str, Any]) -> None:
        """Set switches from JSON; raises ValueError, and sets none, if one of them is wrong."""
        kinds = get_type_hints(Switches)
        known = {one.name for one in fields(Switches)}
        if unknown := switches.keys() - known:
            raise ValueError(f"no such state: {', '.join(sorted(unknown))}")
        try:
            read = {name: msgspec.convert(value, kinds[name]) for name, value in switches.items()}
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        for name, value in read.items():
            setattr(self, name, value)
