"""Docker Hub's pull limits, as the registry reports them in its headers."""

import re
from dataclasses import dataclass, replace

import httpx

from receiver.dockerhub.fetching import Fetched
from receiver.rules import Login

_COUNT = re.compile(r"(\d{1,9})(?:;w=(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class PullLimit:
    """Docker Hub's pull limit for one account or address."""

    limit: int
    remaining: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Pulls:
    """The pull limit of one login. `met`: its last response was a 429."""

    limit: PullLimit | None = None
    met: bool = False


class PullLimits:
    """The last reported limits: of each login, and of the last response.

    `met`: the last response was a 429.
    """

    def __init__(self) -> None:
        self.by_login: dict[Login | None, Pulls] = {}
        self.last: PullLimit | None = None
        self.met = False

    def note_met(self, login: Login | None, *, met: bool) -> None:
        """Record whether the login has just reached its limit."""
        self.met = met
        self.by_login[login] = replace(self.by_login.get(login, Pulls()), met=met)

    def remember(self, answer: Fetched, login: Login | None) -> None:
        """Read the limit from a response's headers; docs.docker.com/docker-hub/usage/pulls."""
        limit = _COUNT.match(answer.headers.get("ratelimit-limit", ""))
        remaining = _COUNT.match(answer.headers.get("ratelimit-remaining", ""))
        if limit and remaining:
            self.last = PullLimit(int(limit[1]), int(remaining[1]), int(limit[2] or 0))
        elif answer.status == httpx.codes.OK:
            self.last = None  # a plan without a limit
        else:
            return
        self.by_login[login] = Pulls(self.last)
