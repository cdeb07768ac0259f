"""Health: whether the loops turn, and whether a delivery could be recorded now."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.errors import LedgerError
from receiver.ledger.channel_checks import CHANNELS, drifted
from receiver.ledger.gates import closed_gates
from receiver.ledger.transactions import Tx
from receiver.service import CONFIGURATION, Service
from receiver.web.guarding import has_token

REMEMBERED_SECONDS = 5.0
SLOWEST_SECONDS = 4.0
NOT_READY = "the ledger cannot be written now: the log says why, and so does this with an API token"
_TRY = """INSERT INTO meta (key, value) VALUES ('tried', :now)
 ON CONFLICT (key) DO UPDATE SET value = excluded.value"""


@dataclass(frozen=True, slots=True)
class _Readiness:
    """`degraded` holds a sentence for each word of what else is wrong."""

    tried: float
    ready: bool
    error: str = ""
    degraded: Mapping[str, str] = field(default_factory=dict)

    def told(self, *, in_full: bool) -> dict[str, object]:
        if not self.ready:
            return {"ready": False, "error": self.error if in_full else NOT_READY}
        whole = [f"{word}: {sentence}" for word, sentence in self.degraded.items()]
        return {"ready": True, "degraded": whole if in_full else list(self.degraded)}


class Health:
    """Answers the two health doors; the try of the ledger is remembered for five seconds."""

    def __init__(self) -> None:
        self._last: _Readiness | None = None
        self._trying = asyncio.Lock()

    async def live(self, request: Request) -> Response:
        """Answer 200 while the worker's loops turn."""
        service: Service = request.app.state.service
        alive = service.worker.alive
        return JSONResponse({"alive": alive}, 200 if alive else 503)

    async def ready(self, request: Request) -> Response:
        """Answer 200 while a delivery could be recorded; `degraded` lists what else is wrong.

        Why is told to who bears a token of the API: this door stands open to the Internet.
        """
        service: Service = request.app.state.service
        found = await self._readiness(service)
        told = found.told(in_full=has_token(service, request))
        return JSONResponse(told, 200 if found.ready else 503)

    async def is_ready(self, service: Service) -> bool:
        """Tell whether a delivery could be recorded, for the metrics."""
        return (await self._readiness(service)).ready

    async def _readiness(self, service: Service) -> _Readiness:
        async with self._trying:
            last = self._last
            if last is None or time.monotonic() - last.tried >= REMEMBERED_SECONDS:
                last = self._last = await _try(service)
            return last


async def _try(service: Service) -> _Readiness:
    now = time.monotonic()
    try:
        async with asyncio.timeout(SLOWEST_SECONDS):
            write = partial(_write, channels=service.settings.channels())
            degraded = await service.ledger.write(write)
    except LedgerError as error:
        return _Readiness(now, ready=False, error=str(error))
    except TimeoutError:
        return _Readiness(now, ready=False, error="the ledger did not answer in time")
    if service.refused is not None:
        degraded[CONFIGURATION] = service.refused.sentence
    if service.preflight.out:
        degraded["docker_hub"] = "it could not be asked when it was last"
    if not service.worker.alive:
        degraded["worker"] = "it does not turn"
    return _Readiness(now, ready=True, degraded=degraded)


def _write(tx: Tx, channels: Iterable[tuple[str, str]]) -> dict[str, str]:
    tx.run(_TRY, now=str(tx.now))
    degraded = {gate.name: gate.sentence for gate in closed_gates(tx)}
    moved = [sentence for sentence, _ in drifted(tx, channels)]
    return {**degraded, CHANNELS: " ".join(moved)} if moved else degraded
