"""The faults of both sandboxes, and the periods in which each is on."""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from receiver.sandbox.calls import Fault, Faults
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap_deployments import DOCUMENTED_RATES
from receiver.sandbox.edgegap_quirks import ListQuirks
from tests.month.history import RecordedEdgegap
from tests.month.network import Network

EDGEGAP_PORT, HUB_PORT, RECEIVER_PORT = 9001, 9002, 9003
MIN_SECONDS = 120.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0

Switch = Callable[[], None]
Settings = tuple[tuple[str, Any], ...]
SHARES = (1.0, 0.3, 0.05)  # of the calls

OF_LISTS: Settings = (
    ("ignores_page", True),
    ("always_next", True),
    ("first_number", 0),
    ("total_count", 1),
    ("left_out", ("total_count", "pagination")),
    ("nulls", ("pagination",)),
)

OF_VERSIONS: Settings = (
    ("hidden_value", None),
    ("reveals_hidden", True),
    ("tokens", {"*": "placeholder"}),
    ("protocols", {"UDP": "udp"}),
    ("numbers", "text"),
    ("numbers", "float"),
    ("stores", {"max_duration": 33}),
    ("stores", {"ports": []}),
    ("leaves_out", frozenset({"max_duration"})),
    ("sanitizes_keys", True),
)

OF_DEPLOYMENTS: Settings = (
    ("capacity", 0),
    ("limit", 0),
    ("unknown_status", 404),
    ("rates", DOCUMENTED_RATES),
    ("rates", {"creations": 1, "statuses": 1, "lists": 1}),
    ("ignores_tags_filter", True),
    ("shows_tags", False),
    ("remembered_for", 0.0),
)

OF_HUB: Settings = (
    ("challenge", ""),
    ("expires_in", None),
    ("expires_in", 1),
    ("token_names", ("access_token",)),
    ("token_names", ()),
    ("opaque_tokens", True),
    ("anonymous_pull_limit", 0),
    ("heads_are_limited", True),
    ("abuse_limited", True),
    ("content_digest", ""),
    ("tampered", True),
    ("cdn_hops", None),
    ("blob_location", "/nowhere"),
    ("redirect_blobs_to", f"http://127.0.0.1:{HUB_PORT}"),
    ("api_limit", 3),
    ("api_limit", 0),
    ("api_retry_after", "Retry-After"),
    ("api_retry_after_as", "date"),
    ("api_expires_in", 1),
    ("next_base", "https://hub.example.com"),
    ("last_updated_means", "oldest"),
    ("endless_pages", True),
    ("latency", 4.0),
    ("clock_ahead", 600.0),
    ("logins", []),
)


@dataclass(frozen=True, slots=True)
class Trouble:
    """One kind of fault: on by `on`, off by `off`; it lasts at most `longest` seconds."""

    name: str
    on: Switch
    off: Switch
    longest: float = 4 * HOUR


@dataclass(frozen=True, slots=True)
class Period:
    """When a fault is on, in epoch seconds."""

    name: str
    begin: float
    end: float


class FaultSchedule(Faults):
    """Faults that apply to a share of the calls while they are on; it counts those it took."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._on: dict[str, tuple[Fault, float]] = {}
        self.taken: Counter[str] = Counter()

    def turn(self, name: str, fault: Fault | None, share: float = 1.0) -> None:
        """Turn a fault on, or off."""
        if fault is None:
            self._on.pop(name, None)
        else:
            self._on[name] = (fault, share)

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for a call, if any."""
        for name, (fault, share) in list(self._on.items()):
            if fault.applies_to(method, path) and self._chance.random() < share:
                self.taken[name] += 1
                return fault
        return None


def _anywhere() -> Iterator[tuple[str, Fault]]:
    """Return what may happen to a call to either."""
    html = "<html><body>Bad Gateway</body></html>"
    for status in (500, 503):
        yield f"status {status}", Fault("status", status=status)
    yield "status 502 in HTML", Fault("status", status=502, body=html)
    yield "status 408", Fault("status", status=408)
    yield "status 429", Fault("status", status=429)
    yield "status 429 for seconds", Fault("status", status=429, retry_after=30)
    yield "status 404 in HTML", Fault("status", status=404, body=html)
    yield "status 403 in HTML", Fault("status", status=403, body=html)
    elsewhere = {"location": "https://login.example.com/"}
    yield "status 302", Fault("status", status=302, headers=elsewhere)
    yield "done, then status 504", Fault("status", status=504, after=True)
    yield "slow", Fault("slow", seconds=15)
    yield "slower than we wait", Fault("slow", seconds=70, after=True)
    yield "timeout", Fault("timeout", seconds=120)
    for kind in ("reset", "hang_up"):
        fault = Fault("reset") if kind == "reset" else Fault("hang_up")
        yield kind, fault
        yield f"done, then {kind}", replace(fault, after=True)
    yield "truncated", Fault("truncated", size=2000)
    yield "garbage", Fault("garbage")
    yield "huge", Fault("huge", size=21_000_000)
    yield "bomb", Fault("bomb", size=2_000_000)


def _of_edgegap() -> Iterator[tuple[str, Fault]]:
    yield from _anywhere()
    for status in (401, 403):
        yield f"status {status}", Fault("status", status=status, message="Unauthorized")
    for method in ("POST", "PATCH"):
        one = Fault("status", method=method, path_contains="/v1/app/")
        yield f"{method} 400", replace(one, status=400, message="Something is wrong with it")
        yield f"{method} 402", replace(one, status=402, message="Payment required")
        yield f"{method} 403", replace(one, status=403, message="You may not do that")
        yield f"{method} 404", replace(one, status=404, message="Application not found")
        yield f"{method} 424", replace(one, status=424, message="Unable to pull image")
        yield f"{method} done, then 500", replace(one, status=500, after=True)
        declined = Fault("declined", method=method, path_contains="/v1/app/")
        yield f"{method} declined", declined
        yield f"{method} done, then declined", replace(declined, after=True)
        late = Fault("late", method=method, path_contains="/v1/app/", status=504)
        yield f"{method} late", replace(late, seconds=45)
        yield f"{method} very late", replace(late, seconds=400)
        yield f"{method} late, answered 200", replace(late, status=200, seconds=45)
    yield "DELETE declined", Fault("declined", method="DELETE")
    yield "DELETE 409", Fault("status", method="DELETE", status=409, message="It is in use")
    yield "DELETE done, then reset", Fault("reset", method="DELETE", after=True)
    yield "GET 400", Fault("status", method="GET", status=400)
    yield "status of deployments 404", Fault("status", path_contains="/v1/status/", status=404)


def _of_hub() -> Iterator[tuple[str, Fault]]:
    yield from _anywhere()
    for part in ("/token", "/v2/auth/token", "/manifests/", "/v2/namespaces/"):
        for status in (401, 403, 404, 500):
            yield f"{part} {status}", Fault("status", path_contains=part, status=status)
    yield (
        "a limit until a date",
        Fault("status", status=429, retry_after="Thu, 24 Sep 2026 12:00:00 GMT"),
    )


class Troubles:
    """All kinds of faults of both sandboxes and of the network between."""

    def __init__(
        self, edgegap: RecordedEdgegap, hub: DockerHubSandbox, network: Network, seed: int
    ) -> None:
        self._chance = random.Random(f"{seed} troubles")
        self._edgegap, self._hub, self._network = edgegap, hub, network
        self.of_edgegap = FaultSchedule(random.Random(f"{seed} Edgegap"))
        self.of_hub = FaultSchedule(random.Random(f"{seed} Docker Hub"))
        self.kinds: Sequence[Trouble] = tuple(self._all())

    def _all(self) -> Iterator[Trouble]:
        for side, schedule, faults in (
            ("Edgegap", self.of_edgegap, _of_edgegap()),
            ("Docker Hub", self.of_hub, _of_hub()),
        ):
            for name, fault in faults:
                yield self._injected(f"{side}: {name}", schedule, fault)
        yield from self._cut_off()
        yield from self._switches_of_edgegap()
        yield from self._switches_of_hub()

    def _injected(self, name: str, schedule: FaultSchedule, fault: Fault) -> Trouble:
        fault = replace(fault, times=None)

        def on() -> None:
            schedule.turn(name, fault, self._chance.choice(SHARES))

        return Trouble(name, on, lambda: schedule.turn(name, None))

    def _cut_off(self) -> Iterator[Trouble]:
        cut = self._network.cut_off
        for name, port in (("Edgegap", EDGEGAP_PORT), ("Docker Hub", HUB_PORT)):
            yield Trouble(
                f"{name}: no connection", partial(cut.add, port), partial(cut.discard, port)
            )

    def _set(self, of: object, name: str, value: object) -> Trouble:
        usual = getattr(of, name)
        side = "Docker Hub" if of is self._hub else "Edgegap"
        shown = value if isinstance(value, str | int | float | bool | None) else "…"
        return Trouble(
            f"{side}: {name} = {shown!r}",
            lambda: setattr(of, name, value),
            lambda: setattr(of, name, usual),
        )

    def _switches_of_edgegap(self) -> Iterator[Trouble]:
        edgegap = self._edgegap
        for state in ("refused", "deleted"):
            yield self._set(edgegap, "token_state", state)
        yield self._set(edgegap, "latency", 3.0)
        yield self._set(edgegap, "all_limited", 2)
        yield self._set(edgegap, "taken_status", 400)
        yield self._set(edgegap, "pullable", lambda *_: False)
        yield self._set(edgegap, "registry_login", ("somebody", "else"))
        for field, value in OF_LISTS:
            quirks = ListQuirks(**{field: value})
            trouble = self._set(edgegap, "lists", quirks)
            yield replace(trouble, name=f"Edgegap: lists, {field}")
        for field, value in OF_VERSIONS:
            quirk = edgegap.quirks.changed({field: value})
            trouble = self._set(edgegap, "quirks", quirk)
            yield replace(trouble, name=f"Edgegap: versions, {field} {value}")
        deployments, usual = edgegap.deployments, edgegap.deployments.quirks
        for field, value in OF_DEPLOYMENTS:
            quirk_ = replace(usual, **{field: value})
            trouble = self._set(deployments, "quirks", quirk_)
            yield replace(trouble, name=f"Edgegap: deployments, {field}")

    def _switches_of_hub(self) -> Iterator[Trouble]:
        for name, value in OF_HUB:
            yield self._set(self._hub, name, value)


def periods(
    troubles: Troubles, *, begin: float, seconds: float, seed: int
) -> list[tuple[Trouble, Period]]:
    """Return when each kind is on: each at least once, some overlapping."""
    chance = random.Random(f"{seed} periods")
    planned = []
    rounds = max(1, round(seconds / DAY / 12))
    for trouble in [one for one in troubles.kinds for _ in range(rounds)]:
        longest = min(trouble.longest, seconds / 12)
        lasts = MIN_SECONDS * (longest / MIN_SECONDS) ** chance.random()
        at = begin + chance.uniform(0.0, seconds - lasts)
        planned.append((trouble, Period(trouble.name, at, at + lasts)))
    return sorted(planned, key=lambda one: one[1].begin)
