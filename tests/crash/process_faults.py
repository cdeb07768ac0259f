"""What is done to the receiver while senders report pushes; at the end all is counted."""

import random
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.crash.asking import ledger_of
from tests.crash.disks import Disk, small_disk
from tests.crash.edgegap_faults import LATEST_SECONDS, EdgegapFaults
from tests.crash.endings import channels_compared, drained
from tests.crash.lateness import EACH_PUSH, FOLLOWING, NEWEST, patches_land_late
from tests.crash.prunings import PRUNED, PRUNING, pushed_again_while_pruning
from tests.crash.reports import Report, count_up
from tests.support.receiver_process import APP, RULE
from tests.support.set_clock import HOUR, ReceiverWithClock
from tests.support.storm import Senders

SENDERS = 6
PAUSE_SECONDS = 0.15
MEGABYTES = 16
MEGABYTES_A_MINUTE = 24
DISK_FULL = "disk full"
CLOCK_SET = "clock set"
STEPS = (-24 * HOUR, -HOUR, -8, 8, HOUR, 6 * HOUR)  # seconds that the clock is wrong by
NO_SMALL_DISK = "no small disk could be mounted, as root may: a full one was not tried"


class ProcessFaults:
    """Each is a few lines; they come in a shuffled order, every one before any comes again."""

    def __init__(
        self, receiver: ReceiverWithClock, disk: Disk, seed: int, *, set_clock: bool
    ) -> None:
        self.done: Counter[str] = Counter()
        self.kills = 0
        self._receiver = receiver
        self._disk = disk
        self._chance = random.Random(seed)
        self._known: dict[str, Callable[[], None]] = {
            "killed": self._killed,
            "killed while starting": self._killed_while_starting,
            "stopped and resumed": self._stopped_and_resumed,
        }
        if set_clock:
            self._known[CLOCK_SET] = self._clock_set
            self._known["clock set while killed"] = self._clock_set_while_killed
        if disk.small:
            self._known[DISK_FULL] = self._disk_full
            self._known["killed on a full disk"] = self._killed_on_a_full_disk

    def run(self, seconds: float) -> None:
        """Inject faults for `seconds`, and through the whole list at least once."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            names = list(self._known)
            self._chance.shuffle(names)
            for name in names:
                self._wait(0.2, 1.2)
                self._known[name]()
                self.done[name] += 1

    def _killed(self) -> None:
        self._kill()
        self._receiver.start()

    def _killed_while_starting(self) -> None:
        self._kill()
        killing = threading.Timer(self._chance.uniform(0.1, 1.0), self._kill_what_there_is)
        killing.start()
        with suppress(AssertionError):  # it ended before it listened
            self._receiver.start()
        killing.join()
        self._kill()
        self._receiver.start()

    def _kill(self) -> None:
        self._receiver.kill()
        self.kills += 1

    def _kill_what_there_is(self) -> None:
        self.kills += 1
        if self._receiver.process is not None:
            self._receiver.process.kill()

    def _stopped_and_resumed(self) -> None:
        assert self._receiver.process is not None
        self._receiver.process.send_signal(signal.SIGSTOP)
        self._wait(0.2, 1.5)
        self._receiver.process.send_signal(signal.SIGCONT)

    def _clock_set(self) -> None:
        """Set it wrong, and right again after a moment."""
        self._receiver.set_clock(self._chance.choice(STEPS))
        self._wait(0.2, 1.5)
        self._receiver.set_clock(0)

    def _clock_set_while_killed(self) -> None:
        """As a machine that boots with a wrong clock, which is put right while nothing runs."""
        self._kill()
        self._receiver.set_clock(self._chance.choice(STEPS))
        self._receiver.start()
        self._wait(0.2, 1.0)
        self._kill()
        self._receiver.set_clock(0)
        self._receiver.start()

    def _disk_full(self) -> None:
        self._disk.fill()
        self._wait(0.2, 1.0)
        self._disk.free()

    def _killed_on_a_full_disk(self) -> None:
        self._disk.fill()
        self._wait(0.1, 0.5)
        self._kill()
        self._disk.free()
        self._receiver.start()

    def _wait(self, least: float, most: float) -> None:
        time.sleep(self._chance.uniform(least, most))


def run_with_faults(seconds: float, seed: int, *, set_clock: bool) -> Report:
    """Inject faults into a receiver for `seconds`, let it finish, and count."""
    megabytes = int(MEGABYTES + MEGABYTES_A_MINUTE * seconds / 60)
    sandbox = EdgegapSandbox(apps=(APP, PRUNED, NEWEST[0]))
    with (
        tempfile.TemporaryDirectory(prefix="receiver-crash-") as folder,
        serving(sandbox.app) as url,
        small_disk(Path(folder) / "disk", megabytes) as disk,
    ):
        ledger = f"sqlite:///{disk.folder / 'receiver.db'}"
        environment = {"DATABASE_URL": ledger}
        rules = (RULE if set_clock else PRUNING).replace(RULE, FOLLOWING)
        receiver = ReceiverWithClock(
            Path(folder), url, config=rules + EACH_PUSH, environment=environment
        )
        try:
            return _under_faults(receiver, sandbox, disk, seconds, seed, set_clock=set_clock)
        finally:
            receiver.kill()


def _under_faults(
    receiver: ReceiverWithClock,
    sandbox: EdgegapSandbox,
    disk: Disk,
    seconds: float,
    seed: int,
    *,
    set_clock: bool,
) -> Report:
    receiver.start()
    faults = ProcessFaults(receiver, disk, seed, set_clock=set_clock)
    edgegap_faults = EdgegapFaults(sandbox, seed).start()
    senders = Senders(lambda: [receiver.url], at_once=SENDERS, pause=PAUSE_SECONDS, seed=seed)
    senders.start()
    try:
        faults.run(seconds)
    finally:
        answer = senders.stop()
        edgegap_faults.end()
    path = ledger_of(disk.folder)
    end = drained(receiver, path, kills=faults.kills)
    races = 0 if set_clock else pushed_again_while_pruning(receiver, sandbox, path)
    patches_land_late(receiver, sandbox, answer, minutes=seconds / 60, seed=seed)
    time.sleep(LATEST_SECONDS)  # nothing says when the last PATCH is carried out
    channels_compared(receiver, path)
    receiver.stop()
    return count_up(
        path,
        answer,
        sandbox,
        faults.done,
        edgegap_faults=edgegap_faults.faults,
        races=races,
        log=receiver.log,
        end=end,
    )
