"""Our webhook is recognized by its link, wherever it leads and however old it is."""

import pytest

from receiver.dockerhub.records import Webhook
from receiver.signing import LinkSigner
from receiver.upkeep.connect import WebhookKind, kind_of, our_webhooks

REPOSITORY = "studio/game-server"
URL = "https://hooks.example.com"
OLD_KEY, KEY = "old-key-0123456789-0123456789", "new-key-0123456789-0123456789"
LINKS = LinkSigner([OLD_KEY, KEY], {REPOSITORY: 3}, [REPOSITORY])


def link(number: int = 3, *, key: str = KEY, url: str = URL, repository: str = REPOSITORY) -> str:
    return LinkSigner([key], {repository: number}).link(url, repository)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        (link(), WebhookKind.CURRENT),
        (link(2), WebhookKind.OUTDATED),
        (link(4), WebhookKind.OUTDATED),
        (link(key=OLD_KEY), WebhookKind.OUTDATED),
        (link(2, key=OLD_KEY), WebhookKind.OUTDATED),
        (f"{link()}/", WebhookKind.OUTDATED),
        (link(url="https://HOOKS.example.com:443"), WebhookKind.OUTDATED),
        (link(key="a-key-that-is-lost-0123456789"), WebhookKind.DEAD),
        (link()[:-1], WebhookKind.DEAD),
        (link(repository="studio/lobby"), WebhookKind.DEAD),
        (f"{URL}/hooks/dockerhub/", WebhookKind.DEAD),
        (link(url="https://old.example.com"), WebhookKind.ELSEWHERE),
        (link(2, url="https://old.example.com"), WebhookKind.ELSEWHERE),
        (link(url="http://hooks.example.com"), WebhookKind.ELSEWHERE),
        (link(url="https://hooks.example.com:8443"), WebhookKind.ELSEWHERE),
        (link(url="https://hooks.example.com/path"), WebhookKind.ELSEWHERE),
        (link(key="another-0123456789", url="https://b.example.com"), WebhookKind.OTHER),
        (f"{URL}/other", WebhookKind.OTHER),
        ("https://[/hooks/dockerhub/x", WebhookKind.OTHER),
        ("https://x:port/hooks/dockerhub/x", WebhookKind.OTHER),
        ("", WebhookKind.OTHER),
    ],
)
def test_each_webhook_has_a_kind(url: str, kind: WebhookKind) -> None:
    assert kind_of(url, LINKS, URL, REPOSITORY) is kind


def test_webhooks_are_sorted_and_those_of_others_left_out() -> None:
    current, old, other = (
        Webhook("a", (link(),), "a"),
        Webhook("b", (link(1),), "b"),
        Webhook("c", ("https://ci.example.com",), "c"),
    )
    both = Webhook("d", ("https://ci.example.com", link(2)), "d")

    found = our_webhooks([other, old, current, both], LINKS, URL, REPOSITORY)

    assert (found.current, found.outdated) == ((current,), (old, both))
    assert (found.dead, found.elsewhere) == ((), ())
