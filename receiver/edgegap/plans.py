"""Versions: the desired version, the existing version, and the request that changes it.

Pure functions over Edgegap's JSON. A plan holds secrets (the registry token, env values): it is
sent or masked, never stored.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from receiver.edgegap.comparison import same_setting
from receiver.edgegap.copied_settings import (
    TOKEN,
    WHITELISTING,
    Copied,
    copied,
    hidden_keys,
    keys_of,
    listed,
    missing_field_fault,
    read_variables,
)
from receiver.edgegap.fields import (
    NO_VALUE,
    RESOURCES,
    SETTINGS,
    flag,
    is_hidden,
    is_masked,
    is_placeholder,
    resource_faults,
    settings_faults,
    shortened,
)
from receiver.edgegap.responses import IMAGE_FIELDS, Body
from receiver.images import DOCKER_HUB, ImageReference, Login, is_docker_hub, variables_of
from receiver.reasons import Reason, explain
from receiver.secret import MASK, Secret
from receiver.timestamps import read_http_date, read_iso

Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class DesiredVersion:
    """The version that a registration requests, before Edgegap is called."""

    app: str
    version: str
    rule: str
    image: ImageReference
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    leave_out: tuple[str, ...] = ()
    login: Login | None = None
    api_token: Secret | None = None


class Rejected(msgspec.Struct, frozen=True):
    """Why a registration cannot continue until something changes, and what must change."""

    reason: Reason
    sentence: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """The body to send, and what was left out of it and why.

    `unless_public`: why to park, unless the image can be pulled without a login. `before` is the
    version that a PATCH changes, None for a POST.
    """

    body: Settings = field(repr=False)
    notes: tuple[str, ...] = ()
    unless_public: Rejected | None = None
    before: Body | None = field(default=None, repr=False)


def plan_creation(
    wanted: DesiredVersion, source: Body | None, skipped: Sequence[str] = ()
) -> Plan | Rejected:
    """Plan the POST of a version: the source's settings, the rule's over them, checked.

    `source` is the version to copy from, None if there is none; `skipped` names the versions
    that were not used as the source because they are channels.
    """
    found = copied(source or {}, wanted.settings, wanted.leave_out)
    name = shortened((source or {}).get("name"))
    settings = _merged(found.settings, wanted.settings, hidden_keys((source or {}).get("envs")))
    notes = _left_out(found, name)
    problems = _uncopied(wanted, found, name)
    if not {"req_cpu", "req_memory"} <= set(settings) and not problems:
        problems = [_no_settings(wanted, skipped)]
    faults = [*settings_faults(wanted.settings), *resource_faults(settings)]
    if faults:
        problems.append(_invalid(wanted, "; ".join(dict.fromkeys(faults))))
    login = _login(wanted)
    hides_login = found.login_hidden and not login
    login = login or found.login
    problems += _unfit_login(wanted, login)
    if problems:
        return _all_of(problems, notes)
    body = {"name": wanted.version, **_image(wanted.image), **login}
    body |= {"is_active": True, "verify_image": True} | settings
    if not hides_login:
        return Plan(body=body, notes=notes)
    reason = Reason.REGISTRY_LOGIN_HIDDEN
    facts = {"source": name, "repository": wanted.image.repository, **_names(wanted)}
    without = (
        f"Edgegap does not return the old registry login of {name}; set "
        f"{variables_of(wanted.login)}, or the image is pulled without a login"
    )
    parking = Rejected(reason, explain(reason, **facts), notes)
    return Plan(body=body, notes=(*notes, without), unless_public=parking)


def plan_update(wanted: DesiredVersion, current: Body, *, resend: bool = False) -> Plan | Rejected:
    """Plan the PATCH that moves a version to the image, with all settings of the rule.

    A PATCH never has resources, and has either all variables or none. An empty body means that no
    PATCH is needed: Edgegap has all settings, as far as they can be read, and `resend` is False.
    """
    notes = [
        f"{name} stays {current.get(name)}: Edgegap sets resources only when a version is made"
        for name in sorted(RESOURCES & set(wanted.settings))
        if not same_setting(name, wanted.settings[name], current.get(name))
    ]
    settings = {name: value for name, value in wanted.settings.items() if name not in RESOURCES}
    faults = settings_faults(settings)
    if faults:
        return _invalid(wanted, "; ".join(faults))
    login = _login(wanted)
    problems = _unfit_login(wanted, login)
    variables = read_variables(current.get("envs"), keys_of(settings.get("envs")))
    if "envs" in settings:
        hidden = hidden_keys(current.get("envs"))
        settings["envs"] = _merged_envs(variables.sent, settings["envs"], hidden)
        known = current.get("envs") is not None or "envs" in wanted.leave_out
        missing = () if known else (missing_field_fault("envs"),)
        kept = Copied(hidden=variables.hidden, unfit=(*variables.unfit, *missing))
        problems = [*_uncopied(wanted, kept, wanted.version), *problems]
    if problems:
        return _all_of(problems, tuple(notes))
    differs = any(
        not (same_setting(name, value, current.get(name)) or is_masked(current.get(name)))
        for name, value in {**login, **settings}.items()
        if name != "verify_image"  # applies to one call only; no version stores it
    )
    if same_image(current, wanted.image) and not differs and not resend:
        return Plan(body={}, notes=tuple(notes))
    patch = {**_image(wanted.image), **login, "verify_image": True, **settings}
    return Plan(body=patch, notes=tuple(notes), before=current)


def hidden_values(wanted: DesiredVersion) -> str:
    """Return all values that Edgegap does not return, as one text to be hashed with a key.

    Empty if there are none: the registry token and the rule's hidden variables.
    """
    envs = wanted.settings.get("envs") or ()
    values = {str(env["key"]): env["value"] for env in envs if is_hidden(env)}
    return json.dumps([_login(wanted), values], sort_keys=True) if values or wanted.login else ""


def same_image(version: Body, image: ImageReference) -> bool:
    """Return whether a version at Edgegap has this registry, repository and tag."""
    return image_in(version) == image


def image_in(version: Body) -> ImageReference | None:
    """Return the Docker Hub image of a version at Edgegap, None if it has none."""
    registry, repository, tag = (version.get(name) for name in IMAGE_FIELDS)
    if not (is_docker_hub(registry) and isinstance(repository, str) and isinstance(tag, str)):
        return None
    return ImageReference(repository=repository, tag=tag)


def image_of(version: Body) -> str:
    """Return the image of a version at Edgegap in its usual notation."""
    registry, repository, tag = (version.get(name) for name in IMAGE_FIELDS)
    return f"{registry}/{repository}:{tag}"


def is_disabled(version: Body) -> bool:
    """Return whether Edgegap reports a version as disabled: it cannot be deployed."""
    return flag(version.get("is_active")) is False


def newest(versions: Iterable[Body]) -> Body | None:
    """Return the version created last, None if there is none."""
    return max(versions, key=made_at, default=None)


def masked(body: Mapping[str, Any]) -> Settings:
    """Return the body with its registry token and env values replaced by stars, for showing."""
    shown = {name: MASK if name == TOKEN else value for name, value in body.items()}
    if isinstance(body.get("envs"), list):
        shown["envs"] = [{**env, "value": MASK} for env in body["envs"] if isinstance(env, dict)]
    return shown


def made_at(version: Body) -> int:
    """Return when a version was created (epoch ms), 0 if that cannot be read."""
    shown = version.get("create_time")
    return read_iso(shown) or read_http_date(shown) or 0


def _names(wanted: DesiredVersion) -> dict[str, str]:
    return {"app": wanted.app, "version": wanted.version, "rule": wanted.rule}


def _invalid(wanted: DesiredVersion, detail: str) -> Rejected:
    sentence = explain(Reason.SETTINGS_INVALID, detail=detail, **_names(wanted))
    return Rejected(Reason.SETTINGS_INVALID, sentence)


def _no_settings(wanted: DesiredVersion, skipped: Sequence[str]) -> Rejected:
    ways = "To give them, "
    if skipped:
        ways = (
            f"Its versions {listed(skipped)} are channels, which are copied only if a rule "
            f'says so: write copy_from = "{shortened(skipped[0])}" and reload. Or '
        )
    reason = Reason.NO_SETTINGS
    return Rejected(reason, explain(reason, ways=ways, **_names(wanted)))


def _image(image: ImageReference) -> Settings:
    return {
        "docker_repository": DOCKER_HUB,
        "docker_image": image.repository,
        "docker_tag": image.tag,
    }


def _login(wanted: DesiredVersion) -> Settings:
    if wanted.login is None or not wanted.login.username:
        return {}
    return {
        "private_username": wanted.login.username,
        "private_token": wanted.login.token.reveal(),
    }


def _unfit_login(wanted: DesiredVersion, login: Settings) -> list[Rejected]:
    """Return why a registry login must not be sent; empty if it may be."""
    token = login.get(TOKEN)
    if token is not None and wanted.api_token == Secret(token):
        return [Rejected(Reason.API_TOKEN_AS_LOGIN, explain(Reason.API_TOKEN_AS_LOGIN))]
    if any(is_placeholder(value) for value in login.values()):
        reason = Reason.REGISTRY_LOGIN_REFUSED
        facts = {"login": variables_of(wanted.login), "repository": wanted.image.repository}
        return [Rejected(reason, explain(reason, detail=f"it is {NO_VALUE}", **facts))]
    return []


def _uncopied(wanted: DesiredVersion, found: Copied, source: str) -> list[Rejected]:
    """Return the reasons why `found` does not give a version equal to its source."""
    facts = {"source": source, **_names(wanted)}
    problems = []
    if found.hidden:
        lines = "\n".join(
            f"  {{ key = {name}, value_from = {name}, is_hidden = true }},"
            for name in map(json.dumps, sorted(found.hidden))
        )
        keys = listed(sorted(found.hidden))
        problems.append((Reason.HIDDEN_ENV, {"keys": keys, "lines": lines}))
    if found.whitelisting:
        problems.append((Reason.WHITELIST_NOT_COPIED, {"field": WHITELISTING}))
    if found.unfit:
        problems.append((Reason.SETTINGS_NOT_COPIED, {"detail": "; ".join(found.unfit)}))
    return [Rejected(reason, explain(reason, **more, **facts)) for reason, more in problems]


def _all_of(problems: Sequence[Rejected], notes: tuple[str, ...]) -> Rejected:
    """Return one rejection that lists everything to do."""
    sentence = "\n".join(one.sentence for one in problems)
    return Rejected(problems[0].reason, sentence, notes)


def _left_out(found: Copied, source: str) -> tuple[str, ...]:
    notes = [f"not copied from {source}: {fault}" for fault in found.invalid]
    if found.unknown:
        fields = listed(found.unknown)
        notes.append(f"not copied from {source}, as Edgegap's API does not accept it: {fields}")
    return tuple(notes)


def _merged(taken: Settings, own: Mapping[str, Any], hidden: Collection[str]) -> Settings:
    """Override the copied settings with the rule's; envs by key, so that no variable is lost."""
    merged = {**taken, **own}
    if "envs" in own:
        merged["envs"] = _merged_envs(taken.get("envs") or [], own["envs"], hidden)
    return {name: merged[name] for name in SETTINGS if merged.get(name) not in (None, "", [])}


def _merged_envs(
    kept: Iterable[Settings], own: list[Settings], hidden: Collection[str]
) -> list[Settings]:
    """Return the copied variables that the rule does not set, then the rule's variables.

    A variable that Edgegap hides stays hidden unless the rule says otherwise.
    """
    secret = {"is_hidden": True}
    return [*kept, *({**(secret if env["key"] in hidden else {}), **env} for env in own)]
