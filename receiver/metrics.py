"""Prometheus metrics. Label values are bounded: no tags, no free text."""

import platform
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache, partial
from itertools import accumulate

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Metric,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from receiver.version import VERSION

NONE = "none"
PUSH_BUCKETS = (0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)
CALL_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
WEBHOOK_BUCKETS = (0.005, 0.025, 0.1, 0.5, 2.5, 10.0)

# Present from the start, so that an increase is visible.
WEBHOOK_STATUSES = (200, 202, 400, 404, 408, 413, 429, 500, 503)

# They would be a second series for each counter, which nothing reads.
disable_created_metrics()  # type: ignore[no-untyped-call]
registry = CollectorRegistry()
ProcessCollector(registry=registry)
_counter = partial(Counter, registry=registry)
_gauge = partial(Gauge, registry=registry)
_histogram = partial(Histogram, registry=registry)
build_info = _gauge(
    "docker_hub_receiver_build_info",
    "Always 1; the versions of the program and of Python are labels.",
    ("version", "python_version"),
)
build_info.labels(VERSION, platform.python_version()).set(1)

deliveries = _counter(
    "docker_hub_receiver_deliveries",
    "Deliveries by source, verdict and reason.",
    ("source", "verdict", "reason"),
)
links_refused = _counter(
    "docker_hub_receiver_links_refused",
    "Requests with an invalid or revoked link, by reason.",
    ("reason",),
)
requests_rejected = _counter(
    "docker_hub_receiver_requests_rejected",
    "Requests rejected before they reached the application, by reason.",
    ("reason",),
)
registrations = _counter(
    "docker_hub_receiver_registrations",
    "Registrations that ended done or parked, by outcome and reason.",
    ("state", "outcome", "reason"),
)
push_to_version = _histogram(
    "docker_hub_receiver_push_to_version_seconds",
    "Time from storing the delivery to creating or updating the version.",
    buckets=PUSH_BUCKETS,
)
edgegap_calls = _histogram(
    "docker_hub_receiver_edgegap_call_seconds",
    "Calls to Edgegap by method and status; `none` means no response.",
    ("method", "status"),
    buckets=CALL_BUCKETS,
)
docker_hub_calls = _histogram(
    "docker_hub_receiver_docker_hub_call_seconds",
    "Calls to Docker Hub's registry, login and API by method and status.",
    ("method", "status"),
    buckets=CALL_BUCKETS,
)
open_registrations = _gauge(
    "docker_hub_receiver_open_registrations", "Registrations by state.", ("state",)
)
oldest_unfinished = _gauge(
    "docker_hub_receiver_oldest_unfinished_seconds",
    "Age of the oldest registration that is queued, waiting or working; 0 if there is none.",
)
last_success = _gauge(
    "docker_hub_receiver_last_success_timestamp_seconds",
    "When a version was last created or updated, in UTC epoch seconds; 0 if never.",
)
token_refused = _gauge(
    "docker_hub_receiver_edgegap_token_refused", "1 while Edgegap refuses the API token."
)
ready = _gauge(
    "docker_hub_receiver_ready", "1 while a delivery can be recorded, as `/readyz` reports."
)
ledger_bytes = _gauge(
    "docker_hub_receiver_ledger_size_bytes", "Size of the database, without the write-ahead log."
)
config_reloaded = _gauge(
    "docker_hub_receiver_config_last_reload_successful",
    "0 while the last reload failed and the configuration before it is in force.",
)
config_time = _gauge(
    "docker_hub_receiver_config_last_reload_success_timestamp_seconds",
    "When the configuration in force was read, in UTC epoch seconds.",
)
catch_up_found = _counter(
    "docker_hub_receiver_catch_up_found", "Pushes that catch-up found without a webhook."
)
catch_up_success = _gauge(
    "docker_hub_receiver_catch_up_last_success_timestamp_seconds",
    "When catch-up last succeeded for the repository, in UTC epoch seconds; before the first "
    "success, when the repository was first seen. Absent if catch-up is off.",
    ("repository",),
)
catch_up_interval = _gauge(
    "docker_hub_receiver_catch_up_interval_seconds",
    "Seconds between two runs of catch-up; 0 if it is off.",
)


trial_seconds = _gauge(
    "docker_hub_receiver_trial_seconds",
    "For how long deployments of trials ran, by app: of the trials in the ledger.",
    ("app",),
)


class PullLimit(Collector):
    """Docker Hub's last reported pull limit; absent if none was reported, as 0 would mislead."""

    known: tuple[int, int] | None = None  # how many pulls are left, of how many

    def collect(self) -> Iterator[Metric]:
        """Yield the limit, if it is known."""
        if self.known is not None:
            left, limit = self.known
            yield GaugeMetricFamily(
                "docker_hub_receiver_docker_hub_pulls_left",
                "Pulls left in Docker Hub's limit.",
                left,
            )
            yield GaugeMetricFamily(
                "docker_hub_receiver_docker_hub_pull_limit", "Docker Hub's pull limit.", limit
            )


pull_limit = PullLimit()
registry.register(pull_limit)


class WebhookRequests(Collector):
    """The times of requests to the webhook endpoint by status; used by one thread alone.

    The library's histogram takes four locks for each request: five times the cost.
    """

    def __init__(self) -> None:
        self._counts = {status: [0] * (len(WEBHOOK_BUCKETS) + 1) for status in WEBHOOK_STATUSES}
        self._sums = dict.fromkeys(WEBHOOK_STATUSES, 0.0)

    def observe(self, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        if status not in self._sums:
            self._counts[status] = [0] * (len(WEBHOOK_BUCKETS) + 1)
            self._sums[status] = 0.0
        self._counts[status][bisect_left(WEBHOOK_BUCKETS, seconds)] += 1
        self._sums[status] += seconds

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram."""
        family = HistogramMetricFamily(
            "docker_hub_receiver_webhook_request_seconds",
            "Requests to the webhook endpoint by status, until the response is sent.",
            labels=("status",),
        )
        bounds = (*map(str, WEBHOOK_BUCKETS), "+Inf")
        for status, counts in self._counts.items():
            buckets = list(zip(bounds, accumulate(counts), strict=True))
            family.add_metric((str(status),), buckets, self._sums[status])
        yield family


webhook_requests = WebhookRequests()
registry.register(webhook_requests)


def config_in_force() -> None:
    """Set that the configuration was read and is in force since now."""
    config_reloaded.set(1)
    config_time.set_to_current_time()


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
