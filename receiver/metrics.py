"""Prometheus metrics. Label values are bounded: no tags, no free text."""

from collections.abc import Iterator
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

NONE = "none"
PUSH_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)
CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

registry = CollectorRegistry()

deliveries = Counter(
    "receiver_deliveries",
    "Deliveries by source, verdict and reason.",
    ("source", "verdict", "reason"),
    registry=registry,
)
links_refused = Counter(
    "receiver_links_refused",
    "Requests with an invalid or revoked link, by reason.",
    ("reason",),
    registry=registry,
)
requests_rejected = Counter(
    "receiver_requests_rejected",
    "Requests rejected before they reached the application, by reason.",
    ("reason",),
    registry=registry,
)
registrations = Counter(
    "receiver_registrations",
    "Registrations that ended done or parked, by outcome and reason.",
    ("state", "outcome", "reason"),
    registry=registry,
)
push_to_version = Histogram(
    "receiver_push_to_version_seconds",
    "Time from storing the delivery to creating or updating the version.",
    buckets=PUSH_BUCKETS,
    registry=registry,
)
edgegap_calls = Histogram(
    "receiver_edgegap_call_seconds",
    "Calls to Edgegap by method and status; `none` means no response.",
    ("method", "status"),
    buckets=CALL_BUCKETS,
    registry=registry,
)
docker_hub_calls = Histogram(
    "receiver_docker_hub_call_seconds",
    "Calls to Docker Hub's registry, login and API by method and status.",
    ("method", "status"),
    buckets=CALL_BUCKETS,
    registry=registry,
)
open_registrations = Gauge(
    "receiver_open_registrations", "Registrations by state.", ("state",), registry=registry
)
oldest_unfinished = Gauge(
    "receiver_oldest_unfinished_seconds",
    "Age of the oldest registration that is queued, waiting or working; 0 if there is none.",
    registry=registry,
)
last_success = Gauge(
    "receiver_last_success_timestamp_seconds",
    "When a version was last created or updated, in UTC epoch seconds; 0 if never.",
    registry=registry,
)
token_refused = Gauge(
    "receiver_edgegap_token_refused", "1 while Edgegap refuses the API token.", registry=registry
)
ready = Gauge(
    "receiver_ready", "1 while a delivery can be recorded, as `/readyz` reports.", registry=registry
)
catch_up_found = Counter(
    "receiver_catch_up_found", "Pushes that catch-up found without a webhook.", registry=registry
)


catch_up_success = Gauge(
    "receiver_catch_up_last_success_timestamp_seconds",
    "When catch-up last succeeded for the repository, in UTC epoch seconds; before the first "
    "success, when the repository was first seen. Absent if catch-up is off.",
    ("repository",),
    registry=registry,
)
catch_up_interval = Gauge(
    "receiver_catch_up_interval_seconds",
    "Seconds between two runs of catch-up; 0 if it is off.",
    registry=registry,
)


trial_seconds = Gauge(
    "receiver_trial_seconds",
    "For how long deployments of trials ran, by app: of the trials in the ledger.",
    ("app",),
    registry=registry,
)


class PullLimit(Collector):
    """Docker Hub's last reported pull limit; absent if none was reported, as 0 would mislead."""

    def __init__(self) -> None:
        self._limit: tuple[int, int] | None = None

    def tell(self, left: int, limit: int) -> None:
        """Set the last reported limit."""
        self._limit = left, limit

    def forget(self) -> None:
        """Clear the limit: none is reported."""
        self._limit = None

    def collect(self) -> Iterator[Metric]:
        """Yield the limit, if it is known."""
        if self._limit is not None:
            left, limit = self._limit
            yield GaugeMetricFamily(
                "receiver_docker_hub_pulls_left", "Pulls left in Docker Hub's limit.", left
            )
            yield GaugeMetricFamily(
                "receiver_docker_hub_pull_limit", "Docker Hub's pull limit.", limit
            )


pull_limit = PullLimit()
registry.register(pull_limit)


def count_delivery(source: str, verdict: object, reason: object) -> None:
    """Count a delivery that is in the ledger."""
    _deliveries_of(source, verdict, reason).inc()


@lru_cache(maxsize=256)
def _deliveries_of(source: str, verdict: object, reason: object) -> Counter:
    return deliveries.labels(source, label(verdict), label(reason))


def label(value: object) -> str:
    """Return the value as a label; `none` for None."""
    return NONE if value is None else str(getattr(value, "value", value))


def count_parked(reason: object) -> None:
    """Count a registration that was parked without an attempt."""
    registrations.labels("parked", NONE, label(reason)).inc()


def count_closed(outcome: object, many: int) -> None:
    """Count parked registrations that were closed without an attempt."""
    registrations.labels("done", label(outcome), NONE).inc(many)


def exposition() -> bytes:
    """Return all metrics in Prometheus' text format."""
    return generate_latest(registry)
