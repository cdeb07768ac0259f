"""Health: whether the loops turn, and whether a delivery could be recorded now."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.catch_up import CATCH_UP
from receiver.errors import LedgerError
from receiver.ledger.cursors import read_cursors
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
            degraded = await service.ledger.write(_write)
            cursors = await service.ledger.read(read_cursors)
    except LedgerError as error:
        return _Readiness(now, ready=False, error=str(error))
    except TimeoutError:
        return _Readiness(now, ready=False, error="the ledger did not answer in time")
    if service.refused is not None:
        degraded[CONFIGURATION] = service.refused.sentence
    catch_up = service.catch_up.failing(cursors)
    if catch_up is not None:
        degraded[CATCH_UP] = catch_up.sentence
    outage = service.preflight.outage
    if outage is not None:
        degraded["docker_hub"] = f"Docker Hub could not be asked: {outage.detail}"
    if not service.worker.alive:
        degraded["worker"] = "it does not turn"
    return _Readiness(now, ready=True, degraded=degraded)


def _write(tx: Tx) -> dict[str, str]:
    tx.run(_TRY, now=str(tx.now))
    return {gate.name: gate.sentence for gate in closed_gates(tx)}
