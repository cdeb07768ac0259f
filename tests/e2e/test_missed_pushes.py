"""500 pushes, of which a random third never arrive as webhooks: every tag gets one version."""

import asyncio
import os
import random
import time
from pathlib import Path

import httpx

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.dockerhub import came, catch_up, hub_beside
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import APP, REPOSITORY, RULE, until, webhook_body

PUSHES = 500
AT_ONCE = 20
CONFIG = RULE.replace("preflight = false\n", "") + '\n[catch_up]\nevery = "off"\n'
QUICK = {"EDGEGAP_CONCURRENCY": "16", "EDGEGAP_REQUESTS_PER_SECOND": "1000"}


async def send(link: str, pushes: list[tuple[str, float]]) -> None:
    """Send the webhooks of these pushes, many at once, as Docker Hub does."""
    line = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(trust_env=False, timeout=20) as http:

        async def one(tag: str, at: float) -> None:
            async with line:
                answer = await http.post(link, json=webhook_body(tag, pushed_at=int(at)))
            assert answer.status_code == 202

        await asyncio.gather(*(one(tag, at) for tag, at in pushes))


def test_after_catch_up_every_tag_has_exactly_one_version(
    sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    seed = int(os.environ.get("MISSED_PUSHES_SEED") or time.time_ns())
    print(f"MISSED_PUSHES_SEED={seed}")
    chance = random.Random(seed)
    tags = [f"1.0.{number}" for number in range(PUSHES)]
    lost = set(chance.sample(tags, PUSHES // 3))
    hub = DockerHubSandbox(api_limit=None, anonymous_pull_limit=None)

    with (
        serving(sandbox.app) as edgegap,
        hub_beside(hub) as variables,
        receiver_here(
            tmp_path, edgegap, config=CONFIG, environment={**QUICK, **variables}
        ) as receiver,
    ):
        pushes = [(tag, time.time() + number / 100) for number, tag in enumerate(tags)]
        for tag, at in pushes:
            hub.push_image(REPOSITORY, tag, pushed_at=at)
        answer = [push for push in pushes if push[0] not in lost]
        chance.shuffle(answer)
        asyncio.run(send(receiver.link(), answer[::2]))
        catch_up(receiver)  # between the webhooks: what it takes they report again
        asyncio.run(send(receiver.link(), answer[1::2]))
        catch_up(receiver)
        until(lambda: len(sandbox.versions) == PUSHES, 60)
        catch_up(receiver)

        caught_up = {tag for source, tag in came(receiver) if source == "catch-up"}

    assert {tag for _, tag in sandbox.versions} == set(tags)
    assert [tag for tag in tags if sandbox.posts_that_created(APP, tag) != 1] == []
    assert lost <= caught_up
