"""Which version settings are copied from, asked of a served Edgegap."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from receiver.edgegap.client import RateLimiter, edgegap_client
from receiver.edgegap.version_cache import NEWEST, Source, VersionCache
from receiver.rules.rule import Rule, moving_versions
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from tests.support.receiver_process import APP

VERSIONS = {"1.0": "01", "1.1": "02", "staging": "03", "1.2": "04", "same-time": "04"}


@pytest.fixture
def sandbox() -> EdgegapSandbox:
    sandbox = EdgegapSandbox(apps=(APP,))
    for name, day in VERSIONS.items():
        sandbox.add_version(APP, name, create_time=f"2026-11-{day} 10:00:00.000001")
    return sandbox


def found(
    sandbox: EdgegapSandbox, ask: Callable[[VersionCache], Coroutine[Any, Any, Source]]
) -> tuple[str | None, tuple[str, ...]]:
    """The version's name, and which were passed over."""

    async def asked() -> Source:
        with serving(sandbox.app) as url:
            async with edgegap_client(url, Secret("sandbox-token"), RateLimiter(500, 4)) as client:
                return await ask(VersionCache(client))

    source = asyncio.run(asked())
    name = None if source.version is None else str(source.version["name"])
    return name, source.skipped


@pytest.mark.parametrize(
    ("without", "before", "name", "skipped"),
    [
        (set(), None, "1.2", ()),
        ({"1.2", "same-time"}, None, "staging", ("1.2", "same-time")),
        ({"1.2", "same-time", "staging"}, None, "1.1", ("1.2", "same-time", "staging")),
        (set(), "1.1", "1.0", ()),
        (set(), "1.2", "same-time", ()),
        ({"staging", "same-time"}, "1.2", "1.1", ("same-time", "staging")),
        (set(VERSIONS), None, None, ("1.2", "same-time", "staging", "1.1", "1.0")),
    ],
)
def test_the_newest_is_none_of_those_excluded_and_not_the_version_itself(
    sandbox: EdgegapSandbox,
    without: set[str],
    before: str | None,
    name: str | None,
    skipped: tuple[str, ...],
) -> None:
    version = before and sandbox.versions[APP, before]

    source = found(
        sandbox,
        lambda catalogue: catalogue.source(
            APP, NEWEST, of=before or "2.0", without=without, before=version or None
        ),
    )

    assert source == (name, skipped)


def test_a_version_just_made_is_copied_from_and_a_named_one_whatever_it_is(
    sandbox: EdgegapSandbox,
) -> None:
    async def made(catalogue: VersionCache) -> Source:
        await catalogue.source(APP, NEWEST, of="2.0")
        later = {"name": "2.0", "create_time": "2026-11-30 10:00:00"}
        catalogue.made(APP, later)
        assert (await catalogue.source(APP, NEWEST, of="2.0")).version != later
        return await catalogue.source(APP, NEWEST, of="2.1")

    assert found(sandbox, made) == ("2.0", ())
    named = found(sandbox, lambda one: one.source(APP, "staging", of="2.0", without={"staging"}))
    assert named == ("staging", ())


def test_what_moves_are_the_channels_of_the_app() -> None:
    rules = [
        Rule("studio/game", APP, "a", channels=("staging", "prod")),
        Rule("studio/game", APP, "b", versions=False, channels=("dev",)),
        Rule("studio/game", "other-app", "c", channels=("other",)),
    ]

    assert moving_versions(rules, APP) == {"staging", "prod", "dev"}
