"""Linking the pull profiles of a rule to a version, and what a failed link means.

No call lists the links of a version, so all are linked each time: a second time changes nothing.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.meanings import Meaning
from receiver.edgegap.pull_profiles import (
    PullProfile,
    link,
    link_path,
    pull_profiles,
    read_pull_profile,
)
from receiver.edgegap.responses import Answer
from receiver.pipeline.retry import Action, Operation, Policy, policy_for
from receiver.reasons import Reason

_AGAIN = Policy(Action.RETRY, Reason.EDGEGAP_ERROR)


@dataclass(frozen=True, slots=True)
class NotLinked:
    """A pull profile that is not linked, with the response and what to do about it.

    `known` are the names of those that exist, if it does not.
    """

    profile: PullProfile
    policy: Policy
    answer: Answer
    known: str = ""


async def link_all(
    client: EdgegapClient,
    profiles: Iterable[str],
    app: str,
    version: str,
    *,
    record: Callable[[str, str], Awaitable[None]],
    recorded: Callable[[Answer], Answer],
) -> NotLinked | None:
    """Link the pull profiles to the version; return None if all are linked.

    `record` records method and path of each request before it is sent, `recorded` each response.
    """
    for profile in map(read_pull_profile, profiles):
        await record("PUT", link_path(profile, app, version))
        read = await link(client, profile, app, version)
        answer = recorded(read.answer)
        if read.meaning is Meaning.UNKNOWN_NAME:
            return await _not_known(client, profile, answer, recorded)
        if read.meaning is not Meaning.DONE:
            return NotLinked(profile, policy_for(Operation.LINK, answer), answer)
    return None


async def _not_known(
    client: EdgegapClient,
    profile: PullProfile,
    answer: Answer,
    recorded: Callable[[Answer], Answer],
) -> NotLinked:
    """Find out which name is not known: if the pull profile exists, the version is gone again."""
    found = await pull_profiles(client)
    listing = recorded(found.answer)
    if found.value is None:
        policy = policy_for(Operation.LIST, listing)  # parks only for an app that is missing
        return NotLinked(profile, _AGAIN if policy.then is Action.PARK else policy, listing)
    if profile in found.value.profiles:
        return NotLinked(profile, _AGAIN, answer)
    unknown = Policy(Action.PARK, Reason.PULL_PROFILE_UNKNOWN)
    return NotLinked(profile, unknown, answer, str(found.value))
