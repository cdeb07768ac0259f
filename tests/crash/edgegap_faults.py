"""A stand-in of Edgegap that misbehaves all the time, in every way that is known of it."""

import random
import threading

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox

EVERY_SECONDS = 0.15
LATEST_SECONDS = 3.0  # that a PATCH is carried out after its answer


def some_fault(chance: random.Random) -> Fault:
    """Choose one: before or after the real thing was done, for any call or for a POST."""
    method = chance.choice([None, "GET", "POST", "POST"])
    after = chance.random() < 0.5
    kinds = (
        Fault("timeout", method=method, after=after, seconds=chance.uniform(0.2, 3.0)),
        Fault("slow", method=method, after=after, seconds=chance.uniform(0.2, 3.0)),
        Fault("reset", method=method, after=after),
        Fault("hang_up", method=method, after=after),
        Fault("truncated", method=method, after=after, size=500),
        Fault("garbage", method=method, after=after),
        Fault("status", method=method, after=after, status=chance.choice([500, 502, 503, 504])),
        Fault("status", method="POST", after=True, status=500),
        Fault("status", method=method, status=429, retry_after=1),
        Fault("late", method="PATCH", status=504, seconds=chance.uniform(0.1, LATEST_SECONDS)),
    )
    return chance.choice(kinds)


class EdgegapFaults:
    """Adds faults from a thread of its own until it is ended."""

    def __init__(self, sandbox: EdgegapSandbox, seed: int) -> None:
        self.faults = 0
        self._sandbox = sandbox
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "EdgegapFaults":
        """Begin."""
        self._thread.start()
        return self

    def end(self) -> None:
        """Behave from now on."""
        self._over.set()
        self._thread.join()
        self._sandbox.behave()

    def _run(self) -> None:
        while not self._over.wait(EVERY_SECONDS):
            self._sandbox.misbehave(some_fault(self._chance))
            self.faults += 1
