"""What the foot of each page says about this receiver."""

from collections.abc import Iterator
from dataclasses import dataclass

from receiver.images import size_text
from receiver.service import Service
from receiver.timestamps import Time
from receiver.version import VERSION


@dataclass(frozen=True, slots=True)
class Footer:
    """Facts that are known without a query; `started_at` is the start of this process."""

    started_at: Time
    facts: tuple[str, ...]


def footer_of(service: Service) -> Footer:
    """Return the version, the size of a ledger in a file, and the pulls left, if they are known."""
    return Footer(service.started_at, tuple(_facts(service)))


def _facts(service: Service) -> Iterator[str]:
    yield f"Receiver {VERSION}"
    path = service.ledger.path
    if path is not None and path.exists():
        yield f"ledger {size_text(path.stat().st_size)}"
    limit = service.preflight.registry.limits.last
    if limit is not None:
        yield f"Docker Hub pulls left: {limit.remaining} of {limit.limit}"
