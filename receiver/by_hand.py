"""A push that a person asks for: as old as its tag is, so that an old one moves nothing back."""

import asyncio
from collections.abc import Sequence

from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import Hub
from receiver.dockerhub.push import Push
from receiver.images import ImageReference
from receiver.missed import login_for
from receiver.rules import Rule

PATIENCE_SECONDS = 5.0


async def push_by_hand(hub: Hub, rules: Sequence[Rule], image: ImageReference) -> Push:
    """Return the push, with Docker Hub's time of it if that decides on anything.

    It has no time if nothing that moves or is pruned is at stake, if its rules do not look at
    images, and if Docker Hub cannot be asked.
    """
    push = Push(image.repository, image.tag)
    own = [rule for rule in rules if rule.repository == image.repository and rule.preflight]
    if not any(_needs_time(rule) for rule in own):
        return push
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            tag = await hub.tag(image.repository, image.tag, login_for(rules, image.repository))
    except (TimeoutError, Unavailable):
        return push
    if tag is None:
        return push
    return Push(image.repository, image.tag, pushed_at=tag.pushed_at)


def _needs_time(rule: Rule) -> bool:
    return bool(rule.channels) or rule.keep is not None or rule.make_room
