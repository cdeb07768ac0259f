"""A stand-in of Docker Hub beside the receiver, and the variables that name it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from receiver.ledger.cursors import Cursor, read_cursors
from receiver.ledger.queries import Filter, list_deliveries
from receiver.ledger.views import Delivery
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.serving import serving
from tests.support.receiver_here import ReceiverHere

HOUR = 3600.0
DAY = 24 * HOUR


@contextmanager
def hub_beside(hub: DockerHubSandbox) -> Iterator[dict[str, str]]:
    """Serve it; yields the variables by which a receiver finds it."""
    with serving(hub.app) as url:
        yield {
            "DOCKERHUB_REGISTRY_URL": url,
            "DOCKERHUB_AUTH_URL": f"{url}/token",
            "DOCKERHUB_API_URL": url,
        }


def ago(seconds: float) -> float:
    return time.time() - seconds


def listings(hub: DockerHubSandbox) -> list[str]:
    """The queries with which tags were listed."""
    return [call.query for call in hub.calls if call.path.endswith("/tags")]


def catch_up(receiver: ReceiverHere) -> float:
    """Let a receiver catch up now; returns how many seconds it was asked to wait."""
    return receiver.inside(receiver.service.catch_up.run)


def cursor(receiver: ReceiverHere) -> Cursor:
    """The cursor of its one repository."""
    (one,) = receiver.ledger.read_sync(read_cursors)
    return one


def deliveries(receiver: ReceiverHere, **wanted: Any) -> list[Delivery]:
    """All deliveries, newest first."""
    found = Filter(limit=1000, **wanted)
    return receiver.inside(lambda: receiver.ledger.read(lambda tx: list_deliveries(tx, found)))


def came(receiver: ReceiverHere) -> list[tuple[str, str]]:
    """Source and tag of each delivery, oldest first."""
    return [(one.source, one.tag or "") for one in reversed(deliveries(receiver))]
