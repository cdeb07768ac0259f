"""Calls about pull profiles, which copy files of an endpoint storage into a deployment.

A new version does not inherit them: each is linked to it by a call. No call lists the links.
"""

from urllib.parse import quote

import msgspec

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.copied_settings import listed
from receiver.edgegap.deployment_answers import Call, Read, meaning_of
from receiver.edgegap.responses import Shape, Success, is_named, version_path

ROWS_PER_PAGE = 100
_LINKED = Success(by_field=False)


class PullProfile(msgspec.Struct, frozen=True, order=True):
    """A pull profile of an endpoint storage; written `endpoint/profile`."""

    endpoint: str
    name: str

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.name}"


class PullProfiles(msgspec.Struct, frozen=True):
    """The account's pull profiles; `complete` is False if there may be more."""

    profiles: tuple[PullProfile, ...]
    complete: bool

    def __str__(self) -> str:
        names = listed([str(profile) for profile in self.profiles]) or "no pull profile"
        return names if self.complete else f"{names}, and perhaps more"


def read_pull_profile(text: str) -> PullProfile:
    """Return the pull profile that a text such as `bucket/maps` names, or raise."""
    endpoint, _, name = text.strip().partition("/")
    if not endpoint or not name:
        raise ValueError(f"{text!r} is not a pull profile: write endpoint/profile")
    return PullProfile(endpoint, name)


async def pull_profiles(client: EdgegapClient) -> Read[PullProfiles]:
    """List the pull profiles of all endpoint storages; a failed list is the answer."""
    endpoints = await client.list_all("/v1/storage/endpoints", "endpoints", ROWS_PER_PAGE)
    answer, complete = endpoints.answer, endpoints.complete
    found: list[PullProfile] = []
    for endpoint in [row["name"] for row in endpoints.rows] if answer.ok else ():
        path = f"{_endpoint_path(endpoint)}/pull-profiles"
        listing = await client.list_all(path, "pull_profiles", ROWS_PER_PAGE)
        found += [PullProfile(endpoint, row["name"]) for row in listing.rows]
        answer, complete = listing.answer, complete and listing.complete
        if not answer.ok:
            break
    value = PullProfiles(tuple(found), complete) if answer.ok else None
    return Read(meaning_of(Call.LIST, answer), answer, value)


def link_path(profile: PullProfile, app: str, version: str) -> str:
    """Return the path of the link of a pull profile to a version."""
    name, of_version = quote(profile.name, safe=""), version_path(app, version).removeprefix("/v1")
    return f"{_endpoint_path(profile.endpoint)}/pull-profile/{name}{of_version}"


async def link(client: EdgegapClient, profile: PullProfile, app: str, version: str) -> Read[None]:
    """Link a pull profile to a version; a link that is there already is `DONE` as well."""
    path = link_path(profile, app, version)
    answer = await client.call("PUT", path, shape=_link_of(profile), success=_LINKED)
    return Read(meaning_of(Call.LINK, answer), answer)


def _endpoint_path(endpoint: str) -> str:
    return f"/v1/storage/endpoint/{quote(endpoint, safe='')}"


def _link_of(profile: PullProfile) -> Shape:
    """Expect the link of this pull profile."""
    fault = f"the answer is not the link of {profile}"
    return lambda body: "" if is_named(body, profile.name, "pull_profile") else fault
