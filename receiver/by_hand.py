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
    """Return the push, with the time that Docker Hub tells where that decides on anything.

    It counts as pushed now where nothing that moves is at stake, where its rules do not look at
    images, and where Docker Hub cannot be asked.
    """
    push = Push(image.repository, image.tag)
    own = [rule for rule in rules if rule.repository == image.repository and rule.preflight]
    if not any(rule.channels for rule in own):
        return push
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            tag = await hub.tag(image.repository, image.tag, login_for(rules, image.repository))
    except (TimeoutError, Unavailable):
        return push
    if tag is None:
        return push
    return Push(image.repository, image.tag, pushed_at=tag.pushed_at)
