"""Work on one push costs the same, however many pushes were worked on before it."""

from functools import partial
from pathlib import Path
from typing import Any

import httpx

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.approvals import approve_waiting
from tests.support.dockerhub import catch_up, hub_beside
from tests.support.history import CHANNELS, MOVING_TAG, Work, counting, fill
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE, TRIAL, until
from tests.support.visitor import PAGE, visitor

LONG, LONGER = 1_200, 3_200  # what is bounded reads at most 500 rows, also of one tag
SLACK = 2_000  # instructions
MANY_STATEMENTS = 150
BY_DESIGN = "SELECT app, sum(stopped_at - requested_at)"  # for a metric: the sum over all trials
RULES = RULE.replace("preflight = false", 'keep = 2\nchannels = ["staging"]')
CONFIG = f"""{RULES}{TRIAL}
[[channel]]
app = "{APP}"
name = "staging"
restore = true

[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
needs = ["trial", "approval"]
"""


def fresh() -> EdgegapSandbox:
    """An Edgegap that has the channels as the ledger does."""
    made = EdgegapSandbox(apps=(APP,))
    made.deployments.set_lifecycle(ready_after=0.1, stop_takes=0.1)
    for channel in CHANNELS:
        made.add_version(APP, channel, docker_image=REPOSITORY, docker_tag=MOVING_TAG)
    return made


def ask(here: ReceiverHere, path: str, body: dict[str, Any] | None = None) -> None:
    """Call the API: with a body by POST."""
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    with httpx.Client(base_url=here.url, headers=headers, trust_env=False, timeout=60) as client:
        answer = client.get(path) if body is None else client.post(path, json=body)
    assert answer.is_success, (path, answer.text)


def to_approve(here: ReceiverHere, delivery: str) -> None:
    """Wait until a push has moved `staging`, and its move of `prod` waits for an approval."""

    def look() -> bool:
        registrations = here.details(delivery)["registrations"]
        return "needs_approval" in {one["reason"] for one in registrations}

    until(look)


def work_on(here: ReceiverHere, hub: DockerHubSandbox, sandbox: EdgegapSandbox) -> None:
    """Let it do everything that it does with a push, once or more."""
    do = partial(ask, here)
    hub.push_image(REPOSITORY, "2.0")
    first = here.push("2.0")
    to_approve(here, first)
    do("/api/promote", {"app": APP, "channel": "prod", "to": "2.0"})
    here.ended(first)
    do("/api/release", {"app": APP, "channel": "prod"})
    delivery = first
    for tag in ("2.1", "2.2", "2.3"):
        hub.push_image(REPOSITORY, tag)
        delivery = here.push(tag)
        to_approve(here, delivery)
    assert here.inside(lambda: here.ledger.write(approve_waiting)) == [True]
    here.wake()
    here.ended(delivery)
    do("/api/rollback", {"app": APP, "channel": "prod"})
    do("/api/release", {"app": APP, "channel": "prod"})
    do(f"/api/deliveries/{delivery}/replay", {})
    here.ended(delivery)
    sandbox.add_version(APP, "3.0", docker_image="studio/another")
    hub.push_image(REPOSITORY, "3.0")
    parked = here.push("3.0")
    assert here.ended(parked)["state"] == "parked"
    do("/api/dismiss", {"ids": [parked]})
    do("/api/dismiss/undo", {"ids": [parked]})
    do("/api/replay", {"parked": True})
    here.ended(parked)
    hub.push_image(REPOSITORY, MOVING_TAG)
    to_approve(here, here.push(MOVING_TAG))
    hub.push_image(REPOSITORY, "2.4")
    catch_up(here)
    sandbox.versions[APP, "staging"]["docker_tag"] = "0.1"
    service = here.service
    here.inside(lambda: service.trials.run(with_list=True))
    here.inside(lambda: service.drift.compare(0))
    here.inside(service.purge.run)
    here.inside(service.health.now)


def look_at(here: ReceiverHere) -> None:
    """Read what a monitor, a script and a person read again and again."""
    for path in (
        "/readyz",
        "/metrics",
        "/api/overview",
        "/api/channels",
        f"/api/versions?app={APP}",
    ):
        ask(here, path)
    with visitor(here) as person:
        for path in ("/", "/deliveries", "/versions", "/channels"):
            person.read(path)


def worked(folder: Path, many: int) -> Work:
    """The work of each statement after that many pushes."""
    sandbox = fresh()
    folder.mkdir()
    fill(folder / "receiver.db", many)
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    with (
        counting() as work,
        serving(sandbox.app) as edgegap,
        hub_beside(hub) as variables,
        receiver_here(folder, edgegap, config=CONFIG, environment={**PAGE, **variables}) as here,
    ):
        work_on(here, hub, sandbox)
        look_at(here)
        return dict(work)


def test_work_on_a_push_costs_the_same_after_a_long_history(
    tmp_path: Path, quick_trials: EdgegapSandbox
) -> None:
    before = worked(tmp_path / "long", LONG)
    after = worked(tmp_path / "longer", LONGER)

    most = {statement: max(counts) for statement, counts in before.items()}
    grown = {
        statement: (most.get(statement, 0), max(counts))
        for statement, counts in after.items()
        if max(counts) > most.get(statement, 0) + SLACK and not statement.startswith(BY_DESIGN)
    }
    assert grown == {}
    assert len(after) > MANY_STATEMENTS
