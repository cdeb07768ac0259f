"""Retry delays: the wait before the next attempt, and the total wait so far."""

from collections.abc import Mapping

import msgspec
from msgspec.structs import replace

from receiver.reasons import Reason

SECOND = 1000
MINUTE = 60 * SECOND
MAX_CALL = 90 * SECOND  # to Edgegap: at most, the client waits this long for a response
FIRST_BACKOFF = 2 * SECOND
MAX_BACKOFF = 10 * MINUTE
MIN_SLOWDOWN = SECOND
PROBE_FIRST = 10 * SECOND
PROBE_LONGEST = 5 * MINUTE
TOKEN_FAMILY = "token"  # noqa: S105 - a word
CAPACITY_FAMILY = "capacity"
UNLIMITED = frozenset({TOKEN_FAMILY, CAPACITY_FAMILY})  # what follows does not count them as lost


# Waits of one family are counted together: different reasons for the same problem.
_FAMILY: Mapping[Reason, str] = {
    Reason.IMAGE_NOT_READY: "image",
    Reason.DOCKER_HUB_UNAVAILABLE: "docker hub",
    Reason.EDGEGAP_TOKEN_REFUSED: TOKEN_FAMILY,
    Reason.FORBIDDEN_BY_EDGEGAP: "forbidden",
    Reason.DECLINED_BY_EDGEGAP: "declined",
    Reason.NO_CAPACITY: CAPACITY_FAMILY,
    Reason.TRIAL_RUNNING: "trial",  # after many looks, a call that fails is repeated soon
    Reason.RULE_GONE: "rule",
    Reason.RULE_CHANGED: "rule",
    Reason.TRIAL_GONE: "rule",
}


class WaitState(msgspec.Struct, frozen=True):
    """How long a registration has waited so far: why, since when (epoch ms), how many times.

    `first` is when the first wait began, for any reason, since the last success.
    """

    reason: Reason | None = None
    since: int = 0
    times: int = 0
    first: int = 0

    def so_far(self, reason: Reason, now: int) -> "WaitState":
        """Return the wait for this reason: it continues only a wait of the same family."""
        if self.reason is not None and _FAMILY.get(self.reason) == _FAMILY.get(reason):
            return WaitState(reason, self.since, self.times, self.first or self.since)
        fresh = self.reason is None or _FAMILY.get(self.reason) in UNLIMITED
        return WaitState(reason, now, 0, now if fresh else self.first or self.since)

    def incremented(self) -> "WaitState":
        """Return the wait with its count increased by one."""
        return replace(self, times=self.times + 1)

    def shifted(self, step: int) -> "WaitState":
        """Return the wait with its times moved by a step of the ledger's clock (ms)."""
        since, first = (moment and moment + step for moment in (self.since, self.first))
        return replace(self, since=since, first=first)


def backoff(times: int, jitter: float) -> int:
    """Return a delay in ms: 2 s doubling to 10 min, full jitter."""
    longest = min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** min(times, 20))
    return int(longest * jitter)


def probe_delay(probes: int) -> int:
    """Return the ms until a refused token is tried again: 10 s, slowing to 5 min."""
    return int(min(PROBE_LONGEST, PROBE_FIRST * 2 ** min(probes, 20)))
