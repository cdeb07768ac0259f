"""Whatever is reported, in whatever order: a channel never moves backwards but by hand.

The ledger, the worker's own code and Edgegap's sandbox are real; nothing goes over a network.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL

from receiver import backoff
from receiver.config.settings import LiveSettings, Settings
from receiver.dockerhub.webhook import Push
from receiver.edgegap.client import EdgegapClient, RateLimiter
from receiver.images import ImageReference
from receiver.ledger.channels import moves_of, read_channel_state
from receiver.ledger.claims import Claimed, claim
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import dismiss_parked, parked_ids
from receiver.ledger.views import Move
from receiver.pipeline.intake import take
from receiver.pipeline.preflight import ImageOk, Preflight
from receiver.pipeline.worker import Worker, recover_leases
from receiver.rules.channel_order import Follow, VersionNumber, version_number
from receiver.rules.rule import Rule
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import Secret
from receiver.upkeep.catch_up import record_missed
from receiver.upkeep.channels import ChannelNotMoved, release, rollback_channel
from receiver.upkeep.drift import Drift
from tests.support.tables import read_rules

NAME = "staging"
TAGS = ("1.0.0", "v1.1", "2.0.0-rc.1", "2.0.0", "nightly-1", "nightly-2")
LONG_AGO = 1_780_000_000_000

TAG = st.sampled_from(TAGS)
ACTIONS = st.one_of(
    st.tuples(st.just("push"), TAG, st.integers(0, 20)),
    st.tuples(st.just("push"), TAG, st.integers(0, 20)),
    st.tuples(st.just("repeat"), TAG, st.integers(0, 40)),
    st.tuples(st.just("overwrite"), TAG, st.integers(0, 40)),
    st.tuples(st.just("catch_up"), TAG, st.integers(0, 20)),
    st.tuples(st.just("rollback"), st.sampled_from(["", *TAGS])),
    st.tuples(st.just("release")),
    st.tuples(st.just("restart")),
    st.tuples(st.just("compare")),
    st.tuples(st.just("fail"), st.sampled_from([500, 302, 202, 403]), st.booleans()),
    st.tuples(st.just("refuse"), st.sampled_from(["PATCH", "GET"])),
    st.tuples(st.just("differ")),
    st.tuples(st.just("late"), st.sampled_from([504, 302, 200, 403])),
    st.tuples(st.just("land")),
    st.tuples(st.just("dashboard"), TAG),
    st.tuples(st.just("dismiss")),
)
TO_CHANNEL = f"/version/{NAME}"
FIRST, SECOND = (("push", "1.0.0", 1), 2), (("push", "v1.1", 2), 2)
TWO_NIGHTS = [(("push", "nightly-1", 1), 2), (("push", "nightly-2", 2), 2)]
# Each with how many registrations the worker ends before the next.
SCRIPT = st.lists(st.tuples(ACTIONS, st.sampled_from([0, 2, 2, 6])), min_size=3, max_size=14)


class Images(Preflight):
    """Docker Hub, as far as it is asked: the digest of each tag."""

    def __init__(self) -> None:
        self.digests: dict[str, int] = {}

    async def check(self, image: ImageReference, rule: Rule) -> ImageOk:
        return ImageOk(digest_of(self.digests.get(image.tag, 0)))


def digest_of(number: int) -> str:
    return f"sha256:{number:064x}"


@dataclass
class Model:
    """What is expected of the channel: in a person's words, not in the program's."""

    follow: Follow
    highest: VersionNumber | None = None
    held: bool = False
    floor: VersionNumber | None = None
    decided: set[str] = field(default_factory=set)

    def rolled_back(self, away_from: str) -> None:
        number = version_number(away_from)
        if self.held:
            self.floor = None if self.floor is None or number is None else max(self.floor, number)
        else:
            self.floor = number
        self.held = True

    def moved(self, move: Move) -> None:
        number = version_number(move.tag)
        if move.action == "restore":
            return
        if move.action == "rollback":
            self.highest = number
            return
        assert move.action == "push"
        assert move.tag not in self.decided, "a repeated or overwritten tag moved it"
        if self.held:
            assert number is not None, "it was held"
            assert self.floor is not None, "it was held"
            assert number > self.floor, "it was held"
            self.held = False
        if number is not None and self.follow is not Follow.NEWEST:
            assert self.highest is None or number >= self.highest, "it went backwards"
            self.highest = number


class World:
    """A receiver with one rule and one channel, and Edgegap behind it."""

    def __init__(
        self, ledger: Ledger, http: httpx.AsyncClient, app: str, follow: Follow, *, restore: bool
    ) -> None:
        self.app = app
        self.restore = restore
        self.late: list[int] = []  # the statuses of the PATCHes to be carried out later
        self.in_flight: list[dict[str, Any]] = []
        self.others: set[str] = set()  # tags that came to Edgegap late, or by another hand
        self.seen = 0
        self.parked = False
        self.repository = f"studio/{app}"
        self.model = Model(follow)
        self.images = Images()
        self.pushed: dict[str, int] = {}
        self.ledger = ledger
        table = {"repository": self.repository, "app": app, "channels": [NAME]}
        settings_ = {"settings": {"req_cpu": 1024, "req_memory": 2048}}
        channel = {"app": app, "name": NAME, "follow": follow.value, "restore": restore}
        rules, faults = read_rules([{**table, **settings_}], {}, None, [channel])
        assert faults == []
        self.current = LiveSettings(Settings(rules=rules, secret_keys=(Secret("k" * 40),)))
        client = EdgegapClient(http, Secret("sandbox-token"), RateLimiter(1e6, 8))
        self.drift = Drift(ledger, self.current, client, lambda: None)
        self.worker = Worker(ledger, self.current, client, self.images)

    async def do(self, action: str, *given: Any) -> None:
        await getattr(self, f"_{action}")(*given)

    async def _push(self, tag: str, at: int) -> None:
        self.images.digests.setdefault(tag, len(self.images.digests) + 1)
        self.pushed.setdefault(tag, at)
        push = Push(self.repository, tag, pushed_at=LONG_AGO + 1000 * at)
        await take(self.ledger, self.current.settings.rules, push, source="webhook")

    async def _repeat(self, tag: str, at: int) -> None:
        if tag in self.pushed:
            await self._push(tag, at)

    async def _overwrite(self, tag: str, at: int) -> None:
        if tag in self.pushed:
            self.images.digests[tag] += 100
            await self._push(tag, at)

    async def _catch_up(self, tag: str, at: int) -> None:
        number = self.images.digests.setdefault(tag, len(self.images.digests) + 1)
        self.pushed.setdefault(tag, at)
        push = Push(self.repository, tag, pushed_at=LONG_AGO + 1000 * at)
        missed = [msgspec.structs.replace(push, digest=digest_of(number))]
        rules = self.current.settings.rules
        await self.ledger.write(lambda tx: record_missed(tx, rules, missed, (), up_since=None))

    async def _rollback(self, to: str) -> None:
        rules, version = self.current.settings.rules, to or None
        before = await self.ledger.read(lambda tx: read_channel_state(tx, self.app, NAME))
        try:
            await self.ledger.write(
                lambda tx: rollback_channel(tx, rules, self.app, NAME, version, source="api")
            )
        except ChannelNotMoved:
            return
        self.model.rolled_back(before.tag)

    async def _release(self) -> None:
        rules = self.current.settings.rules
        try:
            await self.ledger.write(lambda tx: release(tx, rules, self.app, NAME))
        except ChannelNotMoved:
            return
        self.model.held = False

    async def _restart(self) -> None:
        """End in the midst of a registration, without a word, and start again."""
        await self.ledger.write(lambda tx: claim(tx, owner="killed", most=1))
        self.ledger.close()
        self.ledger.__init__(self.ledger._url)  # type: ignore[misc]
        self.ledger.open_to_write(wait_seconds=0)
        settings_ = self.current.settings
        await self.ledger.write(lambda tx: recover_leases(tx, settings_, shared=False))

    async def _compare(self) -> None:
        await self.drift.compare(0)
        await self._take_moves()

    async def _fail(self, status: int, after: bool) -> None:
        sandbox.misbehave(self._answered(status, after=after))

    async def _refuse(self, method: str) -> None:
        """Have Edgegap refuse the next move, or the look that follows it."""
        if method == "GET":
            sandbox.misbehave(Fault("slow", method="GET", seconds=0, path_contains=TO_CHANNEL))
        sandbox.misbehave(Fault("status", method=method, status=400, path_contains=TO_CHANNEL))

    async def _differ(self) -> None:
        """Have Edgegap store all further moves without the ports, or as they are sent."""
        stores: dict[str, Any] = {} if sandbox.quirks.stores else {"ports": []}
        sandbox.quirks = sandbox.quirks.changed({"stores": stores})

    async def _late(self, status: int) -> None:
        self.late.append(status)
        sandbox.misbehave(self._answered(status))

    async def _land(self) -> None:
        """Carry out a PATCH that was answered otherwise before."""
        if self.in_flight:
            body = self.in_flight.pop(0)
            sandbox.versions[self.app, NAME].update(body)
            self.others.add(body["docker_tag"])

    async def _dashboard(self, tag: str) -> None:
        """Move the channel by another hand."""
        if (self.app, NAME) in sandbox.versions:
            sandbox.versions[self.app, NAME]["docker_tag"] = tag
            self.others.add(tag)

    async def _dismiss(self) -> None:
        await self.ledger.write(
            lambda tx: len(dismiss_parked(tx, parked_ids(tx, None), "page").registrations)
        )

    def _answered(self, status: int, *, after: bool = False) -> Fault:
        body = None if status in {500, 504} else '{"success": true}' if status == 202 else "<html>"
        return Fault("status", method="PATCH", status=status, body=body, after=after)

    def _there(self) -> str:
        return str(sandbox.versions.get((self.app, NAME), {}).get("docker_tag", ""))

    async def work(self, most: int) -> None:
        for _ in range(most):
            claimed = await self.ledger.write(lambda tx: claim(tx, owner=self.worker.owner, most=1))
            if not claimed:
                return
            before = self._there()
            await self.worker.work(claimed[0])
            self._note_in_flight()
            if claimed[0].version == NAME:
                self._check_step(claimed[0], before, self._there())
            await self._take_moves()

    def _note_in_flight(self) -> None:
        """Keep the PATCHes that were answered by something in between: they may land later."""
        for call in sandbox.calls:
            if call.method == "PATCH" and call.status in self.late and call.body:
                self.late.remove(call.status)
                self.in_flight.append(call.body)
        sandbox.calls.clear()

    def _check_step(self, claimed: Claimed, before: str, after: str) -> None:
        """Fail if this step moved the channel at Edgegap below what a push put there."""
        first, then = version_number(before), version_number(after)
        if None in {first, then} or self.model.follow is Follow.NEWEST or claimed.by_hand:
            return
        if before in self.others or claimed.channel_state.ordered == claimed.id:
            return
        assert first is not None
        assert then is not None
        assert then >= first, "it went backwards at Edgegap"

    async def _take_moves(self) -> None:
        moves = await self._moves()
        for move in moves[self.seen :]:
            self.model.moved(move)
        self.seen = len(moves)
        rows = await self.ledger.read(
            lambda tx: tx.run(
                "SELECT tag FROM channel_reports WHERE app = :app", app=self.app
            ).all()
        )
        self.model.decided = {row.tag for row in rows}

    async def _moves(self) -> list[Move]:
        return (await self.ledger.read(lambda tx: moves_of(tx, self.app, NAME, 1000)))[::-1]

    async def finish(self) -> None:
        sandbox.behave()
        await self.work(1000)
        await self._compare()
        await self.work(1000)
        await self._compare()
        states = await self.ledger.read(
            lambda tx: tx.run(
                "SELECT DISTINCT state FROM registrations WHERE app = :app AND state <> 'done'",
                app=self.app,
            ).all()
        )
        self.parked = bool(states)
        assert [row.state for row in states if row.state != "parked"] == []
        channel_state = await self.ledger.read(lambda tx: read_channel_state(tx, self.app, NAME))
        drift = await self.ledger.read(
            lambda tx: tx.run("SELECT drift FROM channels WHERE app = :app", app=self.app).scalar()
        )
        if self._there() == channel_state.tag:
            assert not drift
        elif channel_state.tag:
            assert self._there() in self.others, "the image of a push is treated as somebody else's"
            assert drift
            assert self.parked or not self.restore


sandbox = EdgegapSandbox(apps=())
numbers = count(1)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    path: Path = tmp_path_factory.mktemp("backwards") / "receiver.db"
    one = Ledger(URL.create("sqlite", database=str(path)))
    one.open_to_write(wait_seconds=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backoff, "FIRST_BACKOFF", 0)
        yield one
    one.close()


@pytest.mark.parametrize("follow", list(Follow))
@settings(max_examples=20, suppress_health_check=list(HealthCheck), print_blob=True)
@given(SCRIPT, st.booleans())
@example([(("push", "2.0.0", 1), 2), (("push", "v1.1", 2), 2)], False)
@example([*TWO_NIGHTS, (("repeat", "nightly-1", 9), 2)], False)
@example([*TWO_NIGHTS, (("overwrite", "nightly-1", 9), 2)], False)
@example([*TWO_NIGHTS, (("rollback", ""), 2), (("repeat", "nightly-2", 9), 2)], False)
@example([*TWO_NIGHTS, (("rollback", ""), 2), (("push", "1.0.0", 9), 2)], False)
@example(
    [*TWO_NIGHTS, (("fail", 500, True), 0), (("push", "2.0.0", 9), 6), (("restart",), 6)], False
)
@example([FIRST, (("differ",), 0), SECOND], True)
@example([FIRST, (("refuse", "GET"), 0), SECOND], True)
@example([FIRST, (("late", 403), 0), SECOND, (("push", "2.0.0", 3), 2), (("land",), 0)], False)
@example([FIRST, (("late", 504), 0), (("refuse", "GET"), 0), SECOND, (("land",), 0)], True)
def test_a_channel_never_moves_backwards_but_by_hand(
    ledger: Ledger, follow: Follow, script: list[tuple[tuple[Any, ...], int]], restore: bool
) -> None:
    app = f"app-{next(numbers)}"
    sandbox.behave()
    sandbox.quirks = sandbox.quirks.changed({"stores": {}})
    sandbox.add_app(app)

    async def live() -> World:
        transport = httpx.ASGITransport(sandbox.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://edgegap") as http:
            world = World(ledger, http, app, follow, restore=restore)
            for action, most in script:
                await world.do(*action)
                await world.work(most)
            await world.finish()
            return world

    world = asyncio.run(live())

    done = {action[0] for action, _ in script}
    released = [number for tag in world.pushed if (number := version_number(tag)) is not None]
    others = len(released) < len(world.pushed) and follow is not Follow.HIGHEST
    if (
        follow is not Follow.NEWEST
        and released
        and not (others or world.parked or done & {"rollback", "overwrite", "dashboard", "dismiss"})
    ):
        assert world.model.highest == max(released)
