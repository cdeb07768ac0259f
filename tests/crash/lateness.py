"""PATCHes that are carried out after their answer, with a kill between: each must be found."""

import random
from dataclasses import replace

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_process import APP, RULE, ReceiverProcess, until
from tests.support.storm import SentPushes

HIGHEST, NEWEST = FOLLOWED = ((APP, "staging"), ("arena", "newest"))
# A channel that follows the versions of one app, and one of another app that each push moves.
FOLLOWING = RULE.replace("preflight = false", f'preflight = false\nchannels = ["{HIGHEST[1]}"]')
EACH_PUSH = (
    RULE.replace(APP, NEWEST[0]).replace("preflight = false", "preflight = false\nversions = false")
    + f'[[channel]]\napp = "{NEWEST[0]}"\nname = "{NEWEST[1]}"\nfollow = "newest"\n'
)
MAX_TIMES = 8
FIRST = 100  # above every tag that the senders make
SOON, LATE = 0.5, 1.5
ANSWERED_BY_OTHERS = Fault("late", method="PATCH", status=504, times=len(FOLLOWED))
ANSWERS = (
    ANSWERED_BY_OTHERS,
    replace(ANSWERED_BY_OTHERS, status=302, body=""),
    replace(ANSWERED_BY_OTHERS, status=403, body="<html>blocked</html>"),
    replace(ANSWERED_BY_OTHERS, status=202, body='{"success": true}'),
)


def patches_land_late(
    receiver: ReceiverProcess,
    sandbox: EdgegapSandbox,
    sent: SentPushes,
    *,
    minutes: float,
    seed: int,
) -> None:
    """Push twice, at least once a minute: the first PATCH lands after the second moved it."""
    chance = random.Random(seed)
    for number in range(FIRST, FIRST + min(MAX_TIMES, 1 + int(minutes))):
        sandbox.calls.clear()
        fault = replace(chance.choice(ANSWERS), seconds=chance.uniform(SOON, LATE))
        sandbox.misbehave(fault)
        sent.accepted[receiver.push(f"{number}.0")] = f"{number}.0"
        until(lambda status=fault.status: any(call.status == status for call in sandbox.calls))  # type: ignore[misc]
        if chance.random() < 0.5:
            receiver.kill()
            receiver.start()
        delivery = receiver.push(f"{number}.1")
        sent.accepted[delivery] = f"{number}.1"
        receiver.ended(delivery, 90)
