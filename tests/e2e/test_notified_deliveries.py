"""Each notification names the delivery that it is about, and links to it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver import backoff
from receiver.notifications.destinations import NotificationEvent
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.upkeep import notify
from tests.support.dockerhub import catch_up, deliveries, hub_beside
from tests.support.notifications import NotificationListener
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, TRIAL, until

MOVES = RULE.replace("preflight = false", 'channels = ["staging"]')
KEEPS = RULE.replace("preflight = false", "keep = 1")
TRIED = MOVES + TRIAL.replace("steady_for", 'on_failure = "warn"\nsteady_for')
ASKS = f'{MOVES}\n[[channel]]\napp = "{APP}"\nname = "staging"\nneeds = ["approval"]\n'


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox) -> EdgegapSandbox:
    return quick_trials


class Studio:
    """A receiver, what it calls, and what a studio does with it."""

    def __init__(self, here: ReceiverHere, hub: DockerHubSandbox, edgegap: EdgegapSandbox) -> None:
        self.here, self.hub, self.edgegap = here, hub, edgegap

    def begun(self, tag: str) -> str:
        """Push a tag; return its delivery."""
        self.hub.push_image(REPOSITORY, tag)
        return self.here.push(tag)

    def pushed(self, tag: str) -> str:
        """Push a tag and wait for its result; return its delivery."""
        delivery = self.begun(tag)
        self.here.ended(delivery)
        return delivery

    def asked(self, path: str, **body: Any) -> str:
        """Call the API; return the delivery that it recorded."""
        headers = {"Authorization": f"Bearer {self.here.api_token()}"}
        url = f"{self.here.url}/api/{path}"
        answer = httpx.post(url, json=body, headers=headers, trust_env=False)
        return str(answer.raise_for_status().json()["delivery"])

    def waits(self, delivery: str) -> None:
        until(lambda: self.here.details(delivery)["registrations"][0]["state"] == "waiting")

    def missed(self, *tags: str) -> str:
        """Catch up with tags that no webhook reported; return the last delivery of them."""
        for tag in tags:
            self.hub.push_image(REPOSITORY, tag)
        catch_up(self.here)
        return deliveries(self.here, source="catch-up")[0].id

    def drifted(self, **fields: Any) -> str:
        """Change a channel at Edgegap; return the delivery that had moved it."""
        delivery = self.pushed("1.0")
        self.edgegap.versions[APP, "staging"].update(fields)
        self.here.inside(lambda: self.here.service.drift.compare(0))
        return delivery


def moved(path: str) -> Callable[[Studio], str]:
    def move(studio: Studio) -> str:
        studio.pushed("1.0")
        studio.pushed("1.1")
        return studio.asked(path, app=APP, channel="staging", to="1.0")

    return move


def updated(studio: Studio) -> str:
    studio.pushed("1.0")
    return studio.begun("1.1")


def failed(studio: Studio) -> str:
    studio.edgegap.deployments.set_lifecycle(
        version="1.0", ready_after=0.1, crash_after=0.2, exit_code=3
    )
    return studio.begun("1.0")


def overwritten(studio: Studio) -> str:
    studio.pushed("1.0")
    return studio.begun("1.0")


def deleted(studio: Studio) -> str:
    first = studio.pushed("1.0")
    studio.pushed("1.1")
    return first


def refused(studio: Studio) -> str:
    studio.edgegap.token_state = "refused"
    return studio.begun("1.0")


def accepted(studio: Studio) -> str:
    """The token is tested while a push waits for it."""
    delivery = refused(studio)
    studio.waits(delivery)
    studio.edgegap.token_state = "good"
    return delivery


def opened(studio: Studio) -> str:
    """A person opens the gate, and the next request is accepted."""
    delivery = refused(studio)
    studio.waits(delivery)
    studio.edgegap.token_state = "good"
    manual = studio.here.service.manual
    studio.here.inside(lambda: manual.open_gate("token", "api"))  # type: ignore[arg-type]
    return delivery


def closed(studio: Studio) -> str:
    """A later push closes what is parked."""
    studio.pushed("1.0")
    studio.edgegap.misbehave(Fault("status", method="PATCH", status=400))
    studio.pushed("1.1")
    return studio.begun("1.2")


def silent(studio: Studio) -> str:
    last = studio.pushed("1.0")
    studio.missed("1.1", "1.2")
    return last


CASES = [
    (NotificationEvent.CREATED, MOVES, lambda studio: studio.begun("1.0")),
    (NotificationEvent.UPDATED, MOVES, updated),
    (NotificationEvent.PROMOTED, MOVES, moved("promote")),
    (NotificationEvent.ROLLED_BACK, MOVES, moved("rollback")),
    (NotificationEvent.PARKED, MOVES, lambda studio: studio.begun("_no-name-for-a-version")),
    (NotificationEvent.TRIAL_FAILED, TRIED, failed),
    (NotificationEvent.APPROVAL, ASKS, lambda studio: studio.begun("1.0")),
    (NotificationEvent.OVERWRITTEN, MOVES, overwritten),
    (NotificationEvent.DELETED, KEEPS, deleted),
    (NotificationEvent.TOKEN_REFUSED, MOVES, refused),
    (NotificationEvent.RECOVERED, MOVES, accepted),
    (NotificationEvent.RECOVERED, MOVES, opened),
    (NotificationEvent.RECOVERED, MOVES, closed),
    (NotificationEvent.CAUGHT_UP, MOVES, lambda studio: studio.missed("1.0")),
    (NotificationEvent.WEBHOOK_SILENT, MOVES, silent),
    (NotificationEvent.WEBHOOK_SILENT, MOVES, lambda studio: studio.missed("1.0", "1.1")),
    (NotificationEvent.DRIFTED, MOVES, lambda studio: studio.drifted(docker_tag="0.9")),
    (NotificationEvent.DRIFTED, MOVES, lambda studio: studio.drifted(is_active=False)),
]


def test_all_events_are_among_the_cases() -> None:
    assert {event for event, _, _ in CASES} == set(NotificationEvent)


@pytest.mark.parametrize(("event", "config", "act"), CASES)
def test_a_notification_names_its_delivery_and_links_to_it(
    edgegap: str,
    sandbox: EdgegapSandbox,
    url: str,
    listener: NotificationListener,
    tmp_path: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    event: NotificationEvent,
    config: str,
    act: Callable[[Studio], str],
) -> None:
    """Those of a deletion, an approval, drift, a silent webhook and a token named none."""
    monkeypatch.setattr(notify, "GROUP_SECONDS", 0.05)
    monkeypatch.setattr(backoff, "PROBE_FIRST", 2000 if act is opened else 100)
    notice = f'\n[[notice]]\nurl_env = "TEAM_NOTICE_URL"\non = ["{event}"]\n'
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    with hub_beside(hub) as variables:
        environment = {"TEAM_NOTICE_URL": url, **variables}
        config += notice + NO_CATCH_UP
        with receiver_here(tmp_path, edgegap, config=config, environment=environment) as here:
            delivery = act(Studio(here, hub, sandbox))
            until(lambda: listener.messages)

    (message, *_) = listener.messages
    link = f"https://hooks.example.com/deliveries/{delivery}"
    assert f"\nDelivery {delivery}: {link}" in message["message"]
