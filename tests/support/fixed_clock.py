"""A clock that only a test moves."""

from dataclasses import dataclass


@dataclass
class FixedClock:
    """Returns `now`, in epoch seconds, until it is moved."""

    now: float = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let so much time pass."""
        self.now += seconds
