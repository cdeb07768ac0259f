"""PATCHes that are answered 504 and carried out later, with a kill between: each must be found."""

import random

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.faults import Fault
from tests.running import ReceiverProcess, until
from tests.storm import Told

TIMES = 4
FIRST = 100  # above every tag that the senders make
SOON, LATE = 0.5, 2.0
GATEWAY_TIMEOUT = 504


def patches_land_late(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox, sent: Told, seed: int
) -> None:
    """Push twice, again and again: the first PATCH lands after the second moved the channel."""
    chance = random.Random(seed)
    for number in range(FIRST, FIRST + TIMES):
        sandbox.calls.clear()
        seconds = chance.uniform(SOON, LATE)
        sandbox.misbehave(
            Fault("late", method="PATCH", status=GATEWAY_TIMEOUT, times=2, seconds=seconds)
        )
        sent.accepted[receiver.push(f"{number}.0")] = f"{number}.0"
        until(lambda: any(call.status == GATEWAY_TIMEOUT for call in sandbox.calls))
        if chance.random() < 0.5:
            receiver.kill()
            receiver.start()
        delivery = receiver.push(f"{number}.1")
        sent.accepted[delivery] = f"{number}.1"
        receiver.ended(delivery, 90)
