"""The result of an attempt: one value from the retry policy to the database."""

from typing import Self

import msgspec
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.edgegap.plans import Rejected
from receiver.edgegap.responses import Answer
from receiver.edgegap.sent_settings import SentSettings
from receiver.reasons import Outcome, Reason, State
from receiver.rules.trial import TrialRun


class Result(msgspec.Struct, frozen=True):
    """How an attempt ended: done, waiting until `due_at` (epoch ms; 0: due now), or parked.

    `waited` is how long it has waited, stored until the next attempt. `warnings` are the notes that
    a notification repeats. `sent` is the keyed hash of the hidden values that a channel was sent,
    None if none were. `moved`: a channel has the image by a request of ours, even if Edgegap did
    not store everything else that was requested.

    `settings` are those that a version was sent; `planned_again` if they were found out by planning
    the request a second time. `linked` are the pull profiles that this attempt linked.

    `trial` is the run of a registration that tries a version.

    `undecided`: a channel's move is superseded only because its needs are not met; a later report
    is decided again.

    Other registrations must wait too: all until the API token is accepted again (`close_gate`), or
    until `slow_down_until` (epoch ms).
    """

    state: State
    outcome: Outcome | None = None
    reason: Reason | None = None
    sentence: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    due_at: int = 0
    waited: WaitState = msgspec.field(default_factory=WaitState)
    digest: str | None = None
    overwritten: bool = False
    sent: str | None = None
    moved: bool = False
    settings: SentSettings | None = None
    planned_again: bool = False
    linked: tuple[str, ...] = ()
    calls: tuple[Answer, ...] = ()
    trial: TrialRun | None = None
    undecided: bool = False
    close_gate: bool = False
    slow_down_until: int | None = None

    @classmethod
    def done(cls, outcome: Outcome, sentence: str = "") -> Self:
        """Return the result of work that is finished."""
        return cls(State.DONE, outcome=outcome, sentence=sentence)

    @classmethod
    def parked(cls, reason: Reason, sentence: str, warnings: tuple[str, ...] = ()) -> Self:
        """Return the result of work that stops until something changes; `sentence` says what."""
        return cls(State.PARKED, reason=reason, sentence=sentence, warnings=warnings)

    @classmethod
    def rejected(cls, rejected: Rejected) -> Self:
        """Return the result of work for which no request can be planned."""
        return cls.parked(rejected.reason, rejected.sentence, rejected.notes)

    @classmethod
    def waiting(cls, reason: Reason, sentence: str, due_at: int, waited: WaitState) -> Self:
        """Return the result of work whose next attempt is due at `due_at` (epoch ms)."""
        return cls(State.WAITING, reason=reason, sentence=sentence, due_at=due_at, waited=waited)

    def ending_as(self, other: "Result") -> Self:
        """Return what was found and sent in this attempt, ending as the other result."""
        return replace(
            self,
            state=other.state,
            outcome=other.outcome,
            reason=other.reason,
            sentence=other.sentence,
            due_at=other.due_at,
            waited=other.waited,
            close_gate=other.close_gate,
            slow_down_until=other.slow_down_until,
        )

    def shifted(self, step: int) -> Self:
        """Return the result with its times moved by a step of the ledger's clock (ms)."""
        return replace(
            self,
            due_at=self.due_at and self.due_at + step,
            waited=self.waited.shifted(step),
            slow_down_until=self.slow_down_until and self.slow_down_until + step,
            trial=None if self.trial is None else self.trial.shifted(step),
        )
