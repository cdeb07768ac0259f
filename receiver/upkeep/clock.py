"""This machine's clock, compared with Docker Hub's: catch-up and the order of pushes need both."""

import asyncio
import time
from collections.abc import Callable, Mapping

import httpx

from receiver.config.settings import LiveSettings
from receiver.http.client import UNENCODED
from receiver.logs import get_logger
from receiver.periodic import PeriodicTask
from receiver.timestamps import read_date

CLOCK_SECONDS = 60.0  # a smaller difference does no harm
WARN_AGAIN_SECONDS = 3600.0
ASK_EVERY_SECONDS = 24 * 3600.0
REACH_SECONDS = 10.0

log = get_logger(always=True)  # after a warning its end must show, too


def seconds_ahead(headers: Mapping[str, str], now: float) -> float | None:
    """Return by how many seconds a clock that shows `now` (epoch) is ahead of the sender's.

    It is negative if the clock is behind, and None if the response has no `Date`. A response from
    a cache is as old as its `Age` says.
    """
    sent = read_date(headers)
    if sent is None:
        return None
    age = headers.get("age", "").strip()
    return now - sent / 1000 - (int(age[:9]) if age.isascii() and age.isdigit() else 0)


def difference(ahead: float) -> str | None:
    """Return what is wrong with the clock, if it is over a minute ahead or behind."""
    if abs(ahead) <= CLOCK_SECONDS:
        return None
    side = "ahead of" if ahead > 0 else "behind"
    return f"this machine's clock is {abs(ahead):.0f} s {side} Docker Hub's"


class ClockWatch:
    """Warns, at most once an hour, of a clock that differs from Docker Hub's."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._elapsed = elapsed
        self._warned_at: float | None = None

    def compare(self, headers: Mapping[str, str]) -> None:
        """Compare with the `Date` of a response that was just received."""
        ahead = seconds_ahead(headers, self._clock())
        if ahead is None:
            return
        wrong, now = difference(ahead), self._elapsed()
        if wrong is None:
            if self._warned_at is not None:
                log.info("clock_agrees")
            self._warned_at = None
        elif self._warned_at is None or now - self._warned_at >= WARN_AGAIN_SECONDS:
            self._warned_at = now
            todo = "Set the clock by NTP: catch-up and the order of pushes depend on it."
            log.warning("clock_differs", seconds_ahead=round(ahead), sentence=f"{wrong}. {todo}")


class ClockCheck:
    """Asks Docker Hub for the time, at start and once a day, if nothing else asks it anything."""

    def __init__(self, http: httpx.AsyncClient, current: LiveSettings, watch: ClockWatch) -> None:
        self.background = PeriodicTask(
            self._once, every=lambda: ASK_EVERY_SECONDS, fault="clock_check_fault"
        )
        self._http = http
        self._current = current
        self._watch = watch

    async def _once(self) -> None:
        settings = self._current.settings
        if settings.catch_up_every is None and not any(rule.preflight for rule in settings.rules):
            self._watch.compare(await ask_time(self._http, settings.hub_api_url))


async def ask_time(http: httpx.AsyncClient, hub: str) -> Mapping[str, str]:
    """Return the headers of any answer of Docker Hub's API, none if it does not answer."""
    try:
        async with asyncio.timeout(REACH_SECONDS):
            return (await http.head(f"{hub}/", timeout=REACH_SECONDS, headers=UNENCODED)).headers
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
        return {}
