"""Versions: what we want, what is there, and the request that leads from one to the other.

Pure functions over Edgegap's JSON. A plan holds secrets (the registry token, env values): it is
sent or masked, never stored.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from receiver.edgegap.answers import Body
from receiver.edgegap.fields import (
    NEVER_COPIED,
    RESOURCES,
    SETTINGS,
    as_written,
    field_fault,
    is_hidden,
    settings_faults,
    sound_entries,
    without_empty,
)
from receiver.explanations import explain
from receiver.images import DOCKER_HUB, HUB_ALIASES, ImageReference
from receiver.reasons import Reason
from receiver.secret import MASK, Secret
from receiver.times import read_iso

Settings = dict[str, Any]
IMAGE_FIELDS = ("docker_repository", "docker_image", "docker_tag")
SECRET_FIELDS = frozenset({"private_token"})
NOT_READABLE = "This value is set and encrypted"  # what a GET may answer in a secret's place


@dataclass(frozen=True, slots=True)
class Wanted:
    """The version a registration should lead to, before anything of Edgegap's is known."""

    app: str
    version: str
    rule: str
    image: ImageReference
    copy_from: str = "newest"
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    username: str | None = None
    token: Secret | None = None
    api_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The body to send, and what was left out of it and why."""

    body: Settings = field(repr=False)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parking:
    """Why a registration must stop until something changes, and what that is."""

    reason: Reason
    sentence: str


def plan_creation(wanted: Wanted, source: Body | None) -> Plan | Parking:
    """Plan the POST of a version: the source's settings, the rule's over them, checked.

    `source` is the version to copy from, None where the app has none.
    """
    hidden = _hidden_keys(source) - _env_keys(wanted.settings.get("envs"))
    if hidden:
        return _hidden_parking(wanted, hidden, str((source or {}).get("name")))
    copied, notes = _copied(source)
    settings = _merged(copied, wanted.settings)
    if "req_cpu" not in settings or "req_memory" not in settings:
        return Parking(Reason.NO_SETTINGS, explain(Reason.NO_SETTINGS, **_names(wanted)))
    faults = settings_faults(settings)
    if faults:
        return _invalid(wanted, "; ".join(faults))
    login = _login(wanted) or _copied_login(source)
    if _is_api_token(wanted, login):
        return Parking(Reason.API_TOKEN_AS_LOGIN, explain(Reason.API_TOKEN_AS_LOGIN))
    body = {"name": wanted.version, **_image(wanted.image), **login}
    body |= {"is_active": True, "verify_image": True} | settings
    return Plan(body=body, notes=tuple(notes))


def plan_update(wanted: Wanted, current: Body, *, resend: bool = False) -> Plan | Parking:
    """Plan the PATCH that moves a version to the image, with all settings of the rule.

    Never resources, and of the variables all or none. An empty body means that nothing is to be
    done: Edgegap has it all, as far as it can be read, and the caller does not ask to `resend`.
    """
    notes = [
        f"{name} stays {current.get(name)}: Edgegap sets resources only when a version is made"
        for name in sorted(RESOURCES & set(wanted.settings))
        if wanted.settings[name] != current.get(name)
    ]
    settings = {name: value for name, value in wanted.settings.items() if name not in RESOURCES}
    faults = settings_faults(settings)
    if faults:
        return _invalid(wanted, "; ".join(faults))
    login = _login(wanted)
    if _is_api_token(wanted, login):
        return Parking(Reason.API_TOKEN_AS_LOGIN, explain(Reason.API_TOKEN_AS_LOGIN))
    if "envs" in settings:
        settings["envs"] = _merged_envs(as_written("envs", current.get("envs")), settings["envs"])
    hidden = _hidden_keys(current) - _env_keys(wanted.settings.get("envs"))
    if "envs" in settings and hidden:
        return _hidden_parking(wanted, hidden, wanted.version)
    differs = any(
        not (_same(name, current.get(name), value) or current.get(name) == NOT_READABLE)
        for name, value in {**login, **settings}.items()
        if name != "verify_image"  # a wish of one call; no version keeps it
    )
    if same_image(current, wanted.image) and not differs and not resend:
        return Plan(body={}, notes=tuple(notes))
    patch = {**_image(wanted.image), **login, "verify_image": True, **settings}
    return Plan(body=patch, notes=tuple(notes))


def hidden_values(wanted: Wanted) -> str:
    """Return all values that Edgegap does not give out again, as one text to be hashed by a key.

    Empty if there are none: the registry token and the rule's hidden variables.
    """
    envs = wanted.settings.get("envs") or ()
    values = {str(env["key"]): env["value"] for env in envs if is_hidden(env)}
    return json.dumps([_login(wanted), values], sort_keys=True) if values or wanted.token else ""


def same_image(version: Body, image: ImageReference) -> bool:
    """Tell whether a version of Edgegap's holds this registry, repository and tag."""
    registry = version.get("docker_repository")
    return (
        registry in HUB_ALIASES
        and version.get("docker_image") == image.repository
        and version.get("docker_tag") == image.tag
    )


def image_of(version: Body) -> str:
    """Return the image that a version of Edgegap's holds, as people write it."""
    registry, repository, tag = (version.get(name) for name in IMAGE_FIELDS)
    return f"{registry}/{repository}:{tag}"


def differences(asked: Mapping[str, Any], got: Body) -> list[str]:
    """Return what Edgegap holds otherwise than was asked, as sentences without secrets."""
    return [
        f"asked for {name} {asked[name]!r}, Edgegap holds {got.get(name)!r}"
        if name not in {"envs", "ports"}
        else f"Edgegap holds other {name} than asked"
        for name in asked
        if name in SETTINGS and not _same(name, got.get(name), asked[name])
    ]


def newest(versions: Iterable[Body]) -> Body | None:
    """Return the version made last, None where there is none."""
    return max(versions, key=_made_at, default=None)


def masked(body: Mapping[str, Any]) -> Settings:
    """Return the body with its registry token and env values replaced by stars, for showing."""
    shown = {name: MASK if name in SECRET_FIELDS else value for name, value in body.items()}
    if isinstance(body.get("envs"), list):
        shown["envs"] = [{**env, "value": MASK} for env in body["envs"] if isinstance(env, dict)]
    return shown


def _made_at(version: Body) -> int:
    return read_iso(version.get("create_time")) or 0


def _names(wanted: Wanted) -> dict[str, str]:
    return {"app": wanted.app, "version": wanted.version, "rule": wanted.rule}


def _invalid(wanted: Wanted, detail: str) -> Parking:
    sentence = explain(Reason.SETTINGS_INVALID, detail=detail, **_names(wanted))
    return Parking(Reason.SETTINGS_INVALID, sentence)


def _hidden_parking(wanted: Wanted, hidden: Iterable[str], source: str) -> Parking:
    keys = sorted(hidden)
    lines = "\n".join(
        f'  {{ key = "{key}", value_from = "{key}", is_hidden = true }},' for key in keys
    )
    facts = {"keys": ", ".join(keys), "lines": lines, "source": source, **_names(wanted)}
    return Parking(Reason.HIDDEN_ENV, explain(Reason.HIDDEN_ENV, **facts))


def _image(image: ImageReference) -> Settings:
    return {
        "docker_repository": image.registry,
        "docker_image": image.repository,
        "docker_tag": image.tag,
    }


def _login(wanted: Wanted) -> Settings:
    if not wanted.username or wanted.token is None:
        return {}
    return {"private_username": wanted.username, "private_token": wanted.token.reveal()}


def _copied_login(source: Body | None) -> Settings:
    """Return the source's own registry login, only where it is one for Docker Hub."""
    if source is None or source.get("docker_repository") not in HUB_ALIASES | {DOCKER_HUB}:
        return {}
    login = {name: source.get(name) for name in ("private_username", "private_token")}
    whole = all(isinstance(value, str) and value for value in login.values())
    return login if whole else {}


def _is_api_token(wanted: Wanted, login: Settings) -> bool:
    token = login.get("private_token")
    return token is not None and wanted.api_token == Secret(token)


def _copied(source: Body | None) -> tuple[Settings, list[str]]:
    settings: Settings = {}
    notes: list[str] = []
    for name in SETTINGS:
        value = as_written(name, (source or {}).get(name))
        if name in NEVER_COPIED or value in (None, "", []):
            continue
        faults: list[str] = []
        if isinstance(value, list):
            value, faults = sound_entries(name, value)
        elif (fault := field_fault(name, value)) is not None:
            value, faults = None, [fault]
        if value not in (None, []):
            settings[name] = value
        notes += [f"not copied from {(source or {}).get('name')}: {fault}" for fault in faults]
    return settings, notes


def _hidden_keys(version: Body | None) -> set[str]:
    envs = (version or {}).get("envs")
    if not isinstance(envs, list):
        return set()
    return {str(env.get("key")) for env in envs if isinstance(env, dict) and is_hidden(env)}


def _env_keys(envs: Any) -> set[str]:
    return {str(env["key"]) for env in envs} if isinstance(envs, list) else set()


def _merged(copied: Settings, own: Mapping[str, Any]) -> Settings:
    """Lay the rule's settings over the copied ones; envs by key, so that none is lost by adding."""
    merged = {**copied, **own}
    if "envs" in own:
        merged["envs"] = _merged_envs(copied.get("envs"), own["envs"])
    return {name: merged[name] for name in SETTINGS if merged.get(name) not in (None, "", [])}


def _merged_envs(copied: Any, own: list[Settings]) -> list[Settings]:
    keys = _env_keys(own)
    kept = [env for env in copied or [] if env.get("key") not in keys]
    return kept + [dict(env) for env in own]


def _same(name: str, here: Any, wanted: Any) -> bool:
    if name == "ports":
        return _ports_by_number(as_written(name, here)) == _ports_by_number(wanted)
    if name == "envs":
        return _values_by_key(here) == _values_by_key(wanted)
    return bool(here == wanted)


def _ports_by_number(ports: Any) -> list[Settings]:
    defaults = {"to_check": True, "tls_upgrade": False}
    filled = [{**defaults, **without_empty(port)} for port in ports or []]
    for port in filled:
        port.setdefault("name", str(port.get("port")))
    return sorted(filled, key=lambda port: (str(port.get("port")), str(port.get("name"))))


def _values_by_key(envs: Any) -> dict[str, Any]:
    """Return values by key; a hidden one cannot be read, so its being there is all there is."""
    entries = [env for env in envs or [] if isinstance(env, dict)]
    return {str(env.get("key")): MASK if is_hidden(env) else env.get("value") for env in entries}
