"""A receiver whose clock may be set while it runs, or between two runs.

`python -m tests.set_clock FILE serve` is `receiver serve` with a wall clock that is off by as many
seconds as FILE holds at the moment. Its monotonic clock goes on, as it does when a clock is set.
"""

import sys
import time
from collections.abc import Mapping
from pathlib import Path

from receiver.signing import ApiToken, ApiTokenSigner
from tests.support.receiver_process import KEY, RULE, ReceiverProcess

ROOT = Path(__file__).parent.parent.parent
HOUR = 3600


class ReceiverWithClock(ReceiverProcess):
    """One whose clock the test sets; its commands go by the same clock."""

    def __init__(
        self,
        folder: Path,
        edgegap_url: str,
        *,
        config: str = RULE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, edgegap_url, config=config, environment=environment)
        self._off = folder / "clock-is-off-by"
        self.environment["PYTHONPATH"] = str(ROOT)
        self.program = (sys.executable, "-m", "tests.support.set_clock", str(self._off))
        self.set_clock(0)

    def set_clock(self, seconds: float) -> None:
        """Set the clock this far from the right time; negative is behind."""
        new = self._off.with_suffix(".new")
        new.write_text(str(seconds), "utf-8")
        new.replace(self._off)

    def api_token(self) -> str:
        """A token that is good by its clock."""
        return ApiTokenSigner([KEY]).sign(
            ApiToken("ef" * 8, int(time.time() + float(self._off.read_text("utf-8"))) + 60)
        )


def _set_off(file: Path) -> None:
    """Have everything in this process read a clock that is off."""
    seconds, nanoseconds = time.time, time.time_ns

    def off() -> float:
        return float(file.read_text("utf-8"))

    time.time = lambda: seconds() + off()
    time.time_ns = lambda: nanoseconds() + int(off() * 1_000_000_000)


if __name__ == "__main__":
    _set_off(Path(sys.argv[1]))
    from receiver.cli import main

    main(sys.argv[2:])
