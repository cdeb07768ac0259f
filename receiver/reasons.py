"""Verdicts, states, outcomes and reasons of deliveries and registrations, for machines."""

from collections import defaultdict
from enum import StrEnum

import msgspec

_LISTED = "; nothing to do. If it is an image, list the tag in `tags` of a rule."


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
    PASSED = "passed"
    FAILED = "failed"
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
    TEST_PUSH = "test_push"
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
    NEEDS_TRIAL = "needs_trial"
    NEEDS_APPROVAL = "needs_approval"
    NO_CAPACITY = "no_capacity"
    TRIAL_RUNNING = "trial_running"
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
    STORED_DIFFERENTLY = "stored_differently"
    IMAGE_NOT_PULLABLE = "image_not_pullable"
    NOT_AMD64 = "not_amd64"
    IMAGE_TOO_LARGE = "image_too_large"
    TAG_OVERWRITTEN = "tag_overwritten"
    REGISTRY_LOGIN_REFUSED = "registry_login_refused"
    REGISTRY_LOGIN_MISSING = "registry_login_missing"
    REGISTRY_LOGIN_HIDDEN = "registry_login_hidden"
    REGISTRY_RIGHT_MISSING = "registry_right_missing"
    PULL_PROFILE_UNKNOWN = "pull_profile_unknown"
    VERSION_LIMIT = "version_limit"
    APP_MISSING = "app_missing"
    REFUSED_BY_EDGEGAP = "refused_by_edgegap"
    FORBIDDEN_BY_EDGEGAP = "forbidden_by_edgegap"
    DECLINED_BY_EDGEGAP = "declined_by_edgegap"
    DIGEST_CHANGED = "digest_changed"
    TRIAL_REFUSED = "trial_refused"
    TRIAL_GONE = "trial_gone"
    TRIAL_FAILED = "trial_failed"
    CRASHES_THE_WORKER = "crashes_the_worker"
    GAVE_UP = "gave_up"


class Explained(msgspec.Struct, frozen=True):
    """What a reason means and what to do.

    `by_config`: a change of the configuration may resolve it. `in_image`: the cause is this image
    or its tag alone, so a later success under the same rule makes it obsolete.
    """

    sentence: str
    by_config: bool = False
    in_image: bool = False


REASONS: dict[Reason, Explained] = {
    Reason.NO_TAG: Explained(
        "Docker Hub also sends webhooks for the untagged parts of a multi-platform image; nothing "
        "to do."
    ),
    Reason.HELM_CHART: Explained("A Helm chart was pushed, not a container image; nothing to do."),
    Reason.NOT_AN_IMAGE: Explained(
        "The push is not a container image (media type {media_type}); nothing to do.",
        in_image=True,
    ),
    Reason.SIGNATURE: Explained("The tag has the name of an image's signature" + _LISTED),
    Reason.ATTESTATION: Explained("The tag has the name of an image's attestation" + _LISTED),
    Reason.SBOM: Explained("The tag has the name of an image's SBOM" + _LISTED),
    Reason.REFERRERS: Explained(
        "The tag has the name of a list of referrers of an image" + _LISTED
    ),
    Reason.BUILD_CACHE: Explained("The tag has the name of a build cache" + _LISTED),
    Reason.LATEST_NOT_NAMED: Explained(
        "`latest` is ignored unless a rule for {repository} lists it in `tags`: Edgegap caches "
        "images by tag and would keep running the old image. Push a new tag for each build."
    ),
    Reason.NO_RULE: Explained(
        'No rule names {repository}. Add a [[rule]] with repository = "{repository}" and the '
        "Edgegap app, reload, then replay this delivery."
    ),
    Reason.NO_RULE_MATCHES: Explained(
        "No rule of {repository} matches the tag {tag}: {detail}. If it should be registered, "
        "change `tags` in a rule, reload, then replay this delivery."
    ),
    Reason.TEST_PUSH: Explained(
        "`receiver connect --prove` sent this test through the public URL. It arrived; nothing is "
        "registered for it, and nothing is to be done."
    ),
    Reason.BAD_JSON: Explained("The body is not JSON. Docker Hub sends JSON; check the sender."),
    Reason.BAD_SHAPE: Explained(
        "The body is JSON but not Docker Hub's push webhook: {detail}. Check the sender."
    ),
    Reason.BAD_REPOSITORY: Explained(
        "The body has no valid repository: {detail}. Check the sender."
    ),
    Reason.BAD_TAG: Explained("The body's tag is not a valid tag: {detail}. Check the sender."),
    Reason.OTHER_REPOSITORY: Explained(
        "A push to {detail} arrived through the link of {repository}. If that link was pasted into "
        "{detail}'s Webhooks tab, replace it with the output of `receiver link {detail}`."
    ),
    Reason.BODY_TOO_LARGE: Explained(
        "The body is larger than {limit}; Docker Hub's are far smaller. Check the sender."
    ),
    Reason.TOO_MANY_BODIES: Explained(
        "Too many large bodies arrive at once. Send it again later; if Docker Hub sent it, "
        "catch-up finds the push."
    ),
    Reason.BODY_TOO_SLOW: Explained(
        "The body took over 10 seconds to arrive. If Docker Hub sent it, check the proxy; "
        "catch-up finds the push."
    ),
    Reason.EDGEGAP_UNREACHABLE: Explained(
        "Edgegap could not be reached ({detail}); it is retried automatically. If it persists, "
        "check this machine's network and EDGEGAP_BASE_URL."
    ),
    Reason.EDGEGAP_ERROR: Explained(
        "Edgegap returned a server error ({detail}); it is retried automatically. If it persists, "
        "check Edgegap's status page."
    ),
    Reason.EDGEGAP_BUSY: Explained(
        "Edgegap's rate limit is reached (429); all work waits as long as Edgegap asked for."
    ),
    Reason.EDGEGAP_TOKEN_REFUSED: Explained(
        "Edgegap refuses the API token ({detail}). Create a new one at "
        "app.edgegap.com/user-settings?tab=tokens, set EDGEGAP_TOKEN and restart (or reload, if it "
        "is in .env or in a file of its own); everything that waits then continues automatically."
    ),
    Reason.NOT_EDGEGAP: Explained(
        "The response did not come from Edgegap's API ({detail}); it is retried automatically. If "
        "it persists, check EDGEGAP_BASE_URL (https://api.edgegap.com if it is not set), and "
        "whether a proxy or firewall between this machine and Edgegap redirects or blocks the call."
    ),
    Reason.IMAGE_NOT_READY: Explained(
        "{image} cannot be pulled yet ({detail}), perhaps because the push has just happened; it "
        "is retried for 10 minutes."
    ),
    Reason.DOCKER_HUB_UNAVAILABLE: Explained(
        "Docker Hub could not be queried about {image} ({detail}); it is retried for at most 5 "
        "minutes, then the version is created without checking the image."
    ),
    Reason.MAKING_ROOM: Explained(
        "Edgegap's version limit was reached; {detail} was deleted to make room, and the "
        "registration continues."
    ),
    Reason.FAULT: Explained(
        "Internal error of the receiver ({detail}); it is retried automatically. Please report it "
        "with the log line `registration_fault`."
    ),
    Reason.VERSION_NAME_INVALID: Explained(
        "The rule {rule} gives this tag the version name {version!r}, which Edgegap does not "
        "accept: use letters, digits, . _ - only, a letter or digit first. Change `version` in "
        "the rule and reload, or push another tag.",
        by_config=True,
        in_image=True,
    ),
    Reason.NO_SETTINGS: Explained(
        "The app {app} has no version to copy settings from, and the rule {rule} does not set "
        "them. {ways}add to the rule:\n[rule.settings]\nreq_cpu = 1024      # 1024 = 1 vCPU\n"
        "req_memory = 2048   # MB, at most twice req_cpu\n"
        'ports = [{{ port = 7777, protocol = "UDP", name = "gameport" }}]\n'
        "then reload; or create a first version by hand and replay.",
        by_config=True,
    ),
    Reason.COPY_FROM_MISSING: Explained(
        "The rule {rule} copies settings from the version {copy_from!r}, which the app {app} does "
        "not have. Set `copy_from` to another version, or create this one, then replay.",
        by_config=True,
    ),
    Reason.HIDDEN_ENV: Explained(
        "Edgegap does not return the values of the hidden environment variables {keys}, so they "
        "cannot be copied from {source}. Add to the rule {rule}:\n[rule.settings]\nenvs = [\n"
        "{lines}\n]\nset those variables for the receiver, and reload or restart.",
        by_config=True,
    ),
    Reason.WHITELIST_NOT_COPIED: Explained(
        "The version {source} admits only the addresses on its whitelist ({field}), and Edgegap's "
        "API does not accept that setting: {version} would admit everyone. Create {version} by "
        'hand with its whitelist and replay, or accept it: add leave_out = ["{field}"] to the rule '
        "{rule} and reload.",
        by_config=True,
    ),
    Reason.SETTINGS_NOT_COPIED: Explained(
        "Settings of the version {source} cannot be copied: {detail}. Set them under "
        "[rule.settings] in the rule {rule} and reload, or correct {source} in Edgegap's dashboard "
        "and replay.",
        by_config=True,
    ),
    Reason.SETTINGS_INVALID: Explained(
        "Edgegap does not accept the settings for this version: {detail}. Correct [rule.settings] "
        "of the rule {rule} (or the version it copies) and reload.",
        by_config=True,
    ),
    Reason.API_TOKEN_AS_LOGIN: Explained(
        "The registry token is the Edgegap API token, but Edgegap pulls with a Docker Hub access "
        "token. Set DOCKERHUB_TOKEN (or the rule's login) to a read-only access token, and reload "
        "or restart.",
        by_config=True,
    ),
    Reason.RULE_GONE: Explained(
        "The rule {rule} is no longer in the configuration. Put it back and reload, or dismiss it.",
        by_config=True,
    ),
    Reason.RULE_CHANGED: Explained(
        "The rule {rule} now maps this tag to another app or version. Replay to use it.",
        by_config=True,
    ),
    Reason.NAME_TAKEN: Explained(
        "The app {app} already has a version {version} with another image ({detail}); it is never "
        "overwritten. Push under a new tag, or delete that version in Edgegap and replay.",
        in_image=True,
    ),
    Reason.NAME_CONFLICT: Explained(
        "Edgegap reports that the version name {version} is taken, and then that no such version "
        "exists ({detail}). Check the app {app} in Edgegap's dashboard, then replay."
    ),
    Reason.STORED_DIFFERENTLY: Explained(
        "Edgegap accepted the request, but the version {version} of the app {app} differs from it: "
        "{detail}. Correct it in Edgegap's dashboard (or delete it there, if nothing uses it) and "
        "replay; or set [rule.settings] of the rule {rule} to the values at Edgegap and reload.",
        by_config=True,
    ),
    Reason.IMAGE_NOT_PULLABLE: Explained(
        "{image} could not be pulled for 10 minutes ({detail}). Check that the tag exists, that "
        "{login} may pull it, that it is built for linux/amd64, and Docker Hub's pull limit; then "
        "replay.",
        in_image=True,
    ),
    Reason.REGISTRY_LOGIN_REFUSED: Explained(
        "The registry login was refused ({detail}). Check {login}: a Docker Hub access token that "
        "may read {repository}; then reload, restart or replay.",
        by_config=True,
    ),
    Reason.REGISTRY_LOGIN_MISSING: Explained(
        "{repository} is private or does not exist ({detail}), and no Docker Hub login is set. Set "
        "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN to a read-only access token, and reload "
        "or restart.",
        by_config=True,
    ),
    Reason.REGISTRY_LOGIN_HIDDEN: Explained(
        "Edgegap does not return the old registry login of {source}, so it cannot be copied; set "
        "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN to a read-only access token, and reload "
        'or restart. If {repository} is public, add leave_out = ["private_token"] to the rule '
        "{rule} and reload.",
        by_config=True,
    ),
    Reason.REGISTRY_RIGHT_MISSING: Explained(
        "The Docker Hub login is accepted but may not pull {repository} ({detail}). If the "
        'repository is private, the token may be "Public Repo Read-only", which cannot pull it: '
        'create one with "Read-only" access for {login}, by an account that may read the '
        "repository, and reload or restart.",
        by_config=True,
    ),
    Reason.NOT_AMD64: Explained(
        "{image} is built for {platforms}, and Edgegap runs linux/amd64 only. Build it with\n"
        "  {command}\nUse a new tag if you can. If you push the same tag again, it is retried "
        "automatically.",
        in_image=True,
    ),
    Reason.IMAGE_TOO_LARGE: Explained(
        "{image} is {detail} compressed, and the rule {rule} allows {limit}: Edgegap might not "
        "load it in time. Make the image smaller and push a new tag, or raise `max_image` in the "
        "rule and reload.",
        by_config=True,
        in_image=True,
    ),
    Reason.TAG_OVERWRITTEN: Explained(
        "The tag {tag} was overwritten with a new image ({detail}). Edgegap caches images by tag "
        "and may keep running the old one: push under a new tag. The rule {rule} has "
        'on_overwrite = "park"; replay it to accept the new image.',
        in_image=True,
    ),
    Reason.PULL_PROFILE_UNKNOWN: Explained(
        "Edgegap does not have the pull profile {profile}, which the rule {rule} links to "
        "{app}/{version}; it has {known}. Correct `pull_profiles` in the rule and reload, or "
        "create the profile in Edgegap's dashboard and replay.",
        by_config=True,
    ),
    Reason.VERSION_LIMIT: Explained(
        "Edgegap's version limit is reached ({detail}). Three ways out: delete old versions of the "
        'app {app}; move to a larger Edgegap plan; or set versions = false and channels = ["dev"] '
        "in the rule, which keeps one version and moves it. Then replay. With make_room = true in "
        "the rule, the oldest version that this receiver created is deleted automatically.",
        by_config=True,
    ),
    Reason.APP_MISSING: Explained(
        "Edgegap has no app {app}. Create it at app.edgegap.com, or correct `app` in the rule "
        "{rule} and reload; then replay.",
        by_config=True,
    ),
    Reason.REFUSED_BY_EDGEGAP: Explained(
        "Edgegap refused the request: {detail}. Fix what the message names: usually a value in "
        "[rule.settings] of the rule {rule}; for HTTP 402, the plan. Then reload and replay.",
        by_config=True,
    ),
    Reason.FORBIDDEN_BY_EDGEGAP: Explained(
        "Edgegap accepts the API token but denies this request: {detail}. Let the token's owner "
        "manage the app {app}, or set EDGEGAP_TOKEN to a token that may; then restart or replay. "
        "A push is retried for about a minute, in case this is temporary, and is then parked.",
        by_config=True,
    ),
    Reason.DECLINED_BY_EDGEGAP: Explained(
        "Edgegap reported that the request failed ({detail}). A push is tried three more times "
        "within a minute, and is then parked. Fix what the message names, or check the "
        "version {version} of the app {app} in Edgegap's dashboard, then replay.",
        by_config=True,
    ),
    Reason.NEEDS_TRIAL: Explained(
        "The channel {app}/{version} waits until {tag} has passed a trial: `receiver trial` runs "
        "one."
    ),
    Reason.NEEDS_APPROVAL: Explained(
        "The channel {app}/{version} waits for a person to approve {tag}: open the link in the "
        "notification, or run `receiver promote`."
    ),
    Reason.DIGEST_CHANGED: Explained(
        "The tag {tag} was overwritten after it was tried, approved, shown or in a channel "
        "({detail}), so {app}/{version} was not moved to it. Push the new image under a new tag.",
        in_image=True,
    ),
    Reason.NO_CAPACITY: Explained(
        "Edgegap has no server for a trial of {app}/{version} now ({detail}); it is requested "
        "again automatically. A free plan runs one deployment at a time: the trial waits until it "
        "has ended."
    ),
    Reason.TRIAL_RUNNING: Explained(
        "The trial of {app}/{version} {detail}. No channel moves to it until it has passed."
    ),
    Reason.TRIAL_REFUSED: Explained(
        "Edgegap refused to deploy {app}/{version} for its trial: {detail}. Fix what the message "
        "names: the version and its app must be enabled, and its resources be within the plan. "
        "Then replay.",
        by_config=True,
    ),
    Reason.TRIAL_GONE: Explained(
        "The rule {rule} has no [rule.trial] any more, so {app}/{version} is not tried. Write the "
        "table again and reload, or dismiss this.",
        by_config=True,
    ),
    Reason.TRIAL_FAILED: Explained(
        "The trial of {app}/{version} failed: {detail}. No channel was moved to it, and its "
        "deployment {left}. Fix the server and push a new tag, or replay this to try the version "
        "again.",
        in_image=True,
    ),
    Reason.CRASHES_THE_WORKER: Explained(
        "The receiver stopped six times while working on this, the last time while it worked on "
        "nothing else. Check its log and the machine's memory, then replay or dismiss it."
    ),
    Reason.GAVE_UP: Explained(
        "Tried for 24 hours without success; last: {detail}. Fix the cause, then replay."
    ),
}


def explain(reason: Reason, **facts: object) -> str:
    """Return the reason's message with the facts filled in; a missing fact shows as `?`."""
    return REASONS[reason].sentence.format_map(defaultdict(lambda: "?", facts))
