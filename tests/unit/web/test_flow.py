"""A push as one line: which parts it has, and the state of each."""

import msgspec

from receiver.ledger.views import Registration
from receiver.reasons import Outcome, State, Verdict
from receiver.rules.rule import Mode, Rule
from receiver.timestamps import Time
from receiver.upkeep.health import Code
from receiver.web.page.flow import colour_of, flow_of, short_digest

DIGEST = f"sha256:9c55{'0' * 56}8221"
RULE = Rule("studio/game", "my-game", "main", channels=("staging", "prod"))


def registration(**facts: object) -> Registration:
    """A version that is queued, with these fields changed."""
    queued = Registration(
        id="r1", rule="main", app="my-game", version="1.0", mode=Mode.CREATE,
        repository="studio/game", tag="1.0", digest=None, state=State.QUEUED, outcome=None,
        reason=None, sentence="", notes=(), overwritten=False, due_at=Time(0), tries=0,
        created_at=Time(1000), updated_at=Time(1000), finished_at=None, dismissed_at=None,
        dismissed_by=None, deleted_at=None, deleted_why=None,
    )  # fmt: skip
    return msgspec.structs.replace(queued, **facts)


CREATED = {"state": State.DONE, "outcome": Outcome.CREATED, "finished_at": Time(2200)}


def line(*registrations: Registration) -> list[tuple[str, str, str]]:
    steps = flow_of("1.0", None, registrations, [RULE])
    return [(one.name, one.word, one.colour) for one in steps]


def test_a_push_that_waits_shows_what_comes_next() -> None:
    assert line(registration()) == [
        ("digest", "", "next"),
        ("1.0", "queued", "busy"),
        ("staging", "next", "next"),
        ("prod", "next", "next"),
    ]


def test_a_push_that_is_done_shows_the_result_of_each_target() -> None:
    moved = {"id": "r2", "mode": Mode.CHANNEL, "version": "staging"}
    updated = CREATED | {"outcome": Outcome.UPDATED} | moved

    assert line(registration(**updated), registration(digest=DIGEST, **CREATED)) == [
        ("9c55…8221", "", "good"),
        ("1.0", "created", "good"),
        ("staging", "updated", "good"),
    ]
    assert flow_of("1.0", None, [registration(digest=DIGEST, **CREATED)])[1].detail == "1.2 s"


def test_a_digest_that_was_not_looked_up_is_no_open_step() -> None:
    """Without a preflight the line of a push that was done showed it as one to come."""
    assert line(registration(**CREATED)) == [("1.0", "created", "good")]


def test_an_overwritten_tag_is_not_green() -> None:
    (step,) = flow_of("1.0", None, [registration(overwritten=True, **CREATED)])

    assert (step.colour, step.detail) == ("wait", "tag overwritten")


def test_a_push_without_registrations_has_no_parts() -> None:
    assert flow_of(None, DIGEST, []) == ()
    assert short_digest("sha256:ab") == "ab"


def test_each_problem_has_a_title() -> None:
    assert all(code.clause for code in Code)


def test_each_word_has_one_color_everywhere() -> None:
    """A trial that had failed was green in the chart, and grey in the line of its push."""
    words: dict[str, set[str]] = {}
    for word in [*State, *Outcome, *Verdict]:
        words.setdefault(colour_of(word), set()).add(str(word))

    assert words == {
        "good": {"created", "updated", "unchanged", "passed", "accepted", "done"},
        "bad": {"failed", "parked", "refused"},
        "busy": {"queued", "working"},
        "wait": {"waiting"},
        "calm": {"superseded", "dismissed", "ignored"},
    }
