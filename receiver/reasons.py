"""Verdicts, states, outcomes and reasons of deliveries and registrations, for machines."""

from enum import StrEnum


class Verdict(StrEnum):
    """The decision on a delivery when it arrived."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    REFUSED = "refused"


class State(StrEnum):
    """The state of a registration."""

    QUEUED = "queued"
    WORKING = "working"
    WAITING = "waiting"
    DONE = "done"
    PARKED = "parked"


class Outcome(StrEnum):
    """The outcome of a done registration."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    DISMISSED = "dismissed"


class Reason(StrEnum):
    """The reason for each ignored or refused delivery, and each wait or parking."""

    # ignored: not an image, or no rule wants it
    NO_TAG = "no_tag"
    HELM_CHART = "helm_chart"
    NOT_AN_IMAGE = "not_an_image"
    SIGNATURE = "signature"
    ATTESTATION = "attestation"
    SBOM = "sbom"
    REFERRERS = "referrers"
    BUILD_CACHE = "build_cache"
    LATEST_NOT_NAMED = "latest_not_named"
    NO_RULE = "no_rule"
    NO_RULE_MATCHES = "no_rule_matches"
    # refused: a valid link, but the body is not a push
    BAD_JSON = "bad_json"
    BAD_SHAPE = "bad_shape"
    BAD_REPOSITORY = "bad_repository"
    BAD_TAG = "bad_tag"
    OTHER_REPOSITORY = "other_repository"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TOO_SLOW = "body_too_slow"
    TOO_MANY_BODIES = "too_many_bodies"
    # waiting
    EDGEGAP_UNREACHABLE = "edgegap_unreachable"
    EDGEGAP_ERROR = "edgegap_error"
    EDGEGAP_BUSY = "edgegap_busy"
    EDGEGAP_TOKEN_REFUSED = "edgegap_token_refused"  # noqa: S105 - a word, not a token
    NOT_EDGEGAP = "not_edgegap"
    IMAGE_NOT_READY = "image_not_ready"
    DOCKER_HUB_UNAVAILABLE = "docker_hub_unavailable"
    MAKING_ROOM = "making_room"
    FAULT = "fault"
    # parked
    VERSION_NAME_INVALID = "version_name_invalid"
    NO_SETTINGS = "no_settings"
    COPY_FROM_MISSING = "copy_from_missing"
    HIDDEN_ENV = "hidden_env"
    WHITELIST_NOT_COPIED = "whitelist_not_copied"
    SETTINGS_NOT_COPIED = "settings_not_copied"
    SETTINGS_INVALID = "settings_invalid"
    API_TOKEN_AS_LOGIN = "api_token_as_login"  # noqa: S105 - a word, not a token
    RULE_GONE = "rule_gone"
    RULE_CHANGED = "rule_changed"
    NAME_TAKEN = "name_taken"
    NAME_CONFLICT = "name_conflict"
    STORED_OTHERWISE = "stored_otherwise"
    IMAGE_NOT_PULLABLE = "image_not_pullable"
    NOT_AMD64 = "not_amd64"
    TAG_OVERWRITTEN = "tag_overwritten"
    REGISTRY_LOGIN_REFUSED = "registry_login_refused"
    REGISTRY_LOGIN_MISSING = "registry_login_missing"
    REGISTRY_LOGIN_HIDDEN = "registry_login_hidden"
    REGISTRY_RIGHT_MISSING = "registry_right_missing"
    VERSION_LIMIT = "version_limit"
    APP_MISSING = "app_missing"
    REFUSED_BY_EDGEGAP = "refused_by_edgegap"
    FORBIDDEN_BY_EDGEGAP = "forbidden_by_edgegap"
    DECLINED_BY_EDGEGAP = "declined_by_edgegap"
    CRASHES_THE_WORKER = "crashes_the_worker"
    GAVE_UP = "gave_up"
