"""The settings that each version was sent are kept with its result, on both engines."""

import asyncio

from msgspec.structs import replace

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.responses import Answer
from receiver.edgegap.sent_settings import SentSettings
from receiver.images import ImageReference
from receiver.ledger.ledger import Ledger
from receiver.ledger.sent_settings import sent_to, size_before
from receiver.reasons import Outcome, Reason
from receiver.rules.rule import Mode
from receiver.upkeep.purge import Purge
from tests.support.ledger_work import MINUTE, done, one_claim, parked, pushed, settled, waits, write
from tests.support.receiver_process import APP, REPOSITORY

DAY = 24 * 60 * MINUTE
DELETED = "UPDATE targets SET deleted_at = :at WHERE version = :version"
IMAGE = ImageReference(repository=REPOSITORY, tag="9.9")


def sent(tag: str, **more: object) -> SentSettings:
    settings = {"req_cpu": 1024, **more.pop("settings", {})}  # type: ignore[dict-item]
    return SentSettings(f"docker.io/{REPOSITORY}:{tag}", settings, **more)  # type: ignore[arg-type]


def kept(ledger: Ledger, version: str) -> SentSettings | None:
    found = ledger.read_sync(lambda tx: sent_to(tx, APP, version))
    return None if found is None else found.settings


def test_they_are_written_with_the_result(ledger: Ledger) -> None:
    for tag, result in (
        ("1.0", done(settings=sent("1.0", size=7))),
        ("1.1", parked(Reason.STORED_DIFFERENTLY, settings=sent("1.1"))),
        ("1.2", waits(1, settings=sent("1.2"))),
        ("1.3", done()),
    ):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]
        assert settled(ledger, one_claim(ledger), result)

    assert kept(ledger, "1.0") == sent("1.0", size=7)
    assert kept(ledger, "1.1") == sent("1.1")
    assert kept(ledger, "1.2") == sent("1.2")
    assert kept(ledger, "1.3") is None


def test_a_worker_that_lost_its_lease_writes_none(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    claimed = replace(one_claim(ledger), fence=99)

    assert not settled(ledger, claimed, done(settings=sent("1.0")))
    assert kept(ledger, "1.0") is None


def test_a_plan_that_was_made_again_replaces_only_what_others_sent(ledger: Ledger) -> None:
    first, again = sent("1.0"), sent("1.0", settings={"req_cpu": 2048})
    write(ledger, lambda tx: pushed(tx, "1.0"))
    assert settled(ledger, one_claim(ledger), waits(0, settings=first))
    assert settled(ledger, one_claim(ledger), done(settings=again, planned_again=True))
    assert kept(ledger, "1.0") == first

    write(ledger, lambda tx: pushed(tx, "1.0"))
    assert settled(ledger, one_claim(ledger), done(settings=again, planned_again=True))
    assert kept(ledger, "1.0") == again


def test_pull_profiles_that_are_linked_later_are_added(ledger: Ledger) -> None:
    first, again = sent("1.0", pull_profiles=("bucket/maps",)), sent("1.0")
    write(ledger, lambda tx: pushed(tx, "1.0"))
    assert settled(ledger, one_claim(ledger), waits(0, settings=first, linked=("bucket/maps",)))
    linked = ("bucket/mods", "bucket/maps")
    assert settled(
        ledger, one_claim(ledger), done(settings=again, planned_again=True, linked=linked)
    )
    assert kept(ledger, "1.0") == sent("1.0", pull_profiles=("bucket/maps", "bucket/mods"))


def test_pull_profiles_stay_linked_unless_the_version_is_a_new_one(ledger: Ledger) -> None:
    """Removing a name from the rule unlinks nothing, but the copy lost it."""
    post = Answer(method="POST", path="/versions", status=200)
    found = []
    for tag, calls in (("1.0", ()), ("1.1", ()), ("1.2", (post,))):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag, version="staging", mode=Mode.CHANNEL))  # type: ignore[misc]
        settings = sent(tag, pull_profiles=(f"bucket/{tag}",))
        moved = done(Outcome.UPDATED, settings=settings, calls=calls)
        assert settled(ledger, one_claim(ledger), moved)
        copy = kept(ledger, "staging")
        assert copy is not None
        found.append(copy.pull_profiles)

    assert found == [("bucket/1.0",), ("bucket/1.0", "bucket/1.1"), ("bucket/1.2",)]


def test_the_size_of_the_same_image_stays_known(ledger: Ledger) -> None:
    for size, tag in ((7, "1.0"), (None, "1.0"), (None, "1.1")):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag, version="staging", mode=Mode.CHANNEL))  # type: ignore[misc]
        moved = done(Outcome.UPDATED, settings=sent(tag, size=size))
        assert settled(ledger, one_claim(ledger), moved)
        found = kept(ledger, "staging")
        assert found is not None
        assert found.size == (7 if tag == "1.0" else None)


def test_the_size_before_is_that_of_the_newest_other_version(ledger: Ledger) -> None:
    def before(version: str, mode: Mode = Mode.CREATE) -> tuple[str, int] | None:
        return ledger.read_sync(lambda tx: size_before(tx, APP, version, image=IMAGE, mode=mode))

    assert before("9.9") is None
    for tag, size in (("1.0", 7), ("1.1", 8)):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag, advancing_clock=1))  # type: ignore[misc]
        assert settled(ledger, one_claim(ledger), done(settings=sent(tag, size=size)))
    write(ledger, lambda tx: pushed(tx, "1.1", version="staging", mode=Mode.CHANNEL))
    moved = done(Outcome.UPDATED, settings=sent("1.1", size=8))
    assert settled(ledger, one_claim(ledger), moved)

    assert before("9.9") == ("1.1", 8)
    assert before("1.1") == ("1.0", 7)
    assert before("staging", Mode.CHANNEL) == ("1.1", 8)
    assert before("prod", Mode.CHANNEL) is None


def test_those_of_a_version_that_was_deleted_long_ago_are_purged(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]
        assert settled(ledger, one_claim(ledger), done(settings=sent(tag)))
    for version, days in (("1.0", 100), ("1.1", 1)):
        write(
            ledger,
            lambda tx, v=version, d=days: tx.run(DELETED, at=tx.now - d * DAY, version=v),  # type: ignore[misc]
        )

    asyncio.run(Purge(ledger, LiveSettings(Settings())).run())

    assert [version for version in ("1.0", "1.1", "1.2") if kept(ledger, version)] == ["1.1", "1.2"]
