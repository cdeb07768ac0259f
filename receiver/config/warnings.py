"""Warnings about a valid configuration that is probably not intended."""

from collections.abc import Sequence

from receiver.config.settings import MAKE_A_KEY, Settings
from receiver.config.values import UNITS, did_you_mean
from receiver.rules.rule import channels_of_two, may_collide, shadowed
from receiver.rules.tag_patterns import Interval, SemverRange, TagPattern
from receiver.signing import MAX_URL, LinkSigner

GOOD_KEY = 32
GOOD_PASSWORD = 12
CALLS_A_MINUTE = 180  # Docker Hub's limit for all calls


def config_warnings(settings: Settings) -> list[str]:
    """Return all warnings of `check`: probable mistakes, and values that are not set."""
    warnings = probably_not_meant(settings)
    if settings.public_url is None:
        warnings.append("public_url is not set: `receiver link` cannot print links")
    if any(rule.login is None for rule in settings.rules):
        warnings.append("no Docker Hub login: Edgegap can pull public images only")
    return warnings


def probably_not_meant(settings: Settings) -> list[str]:
    """Return warnings about probable mistakes, those about spelling first."""
    return [
        *settings.warnings,
        *_of_rules(settings),
        *_of_secrets(settings),
        *_of_catch_up(settings),
    ]


def _of_rules(settings: Settings) -> list[str]:
    rules = settings.rules
    warnings = [
        f"rule {later.name!r} names the same target as {first.name!r} for the same repository: "
        "the first wins"
        for first, later in shadowed(rules)
    ]
    warnings += [
        f"rules {first.name!r} and {later.name!r} create the same version of {later.app} from two "
        "repositories: the second push of a tag is parked. Write {project}-{tag} in `version`"
        for first, later in may_collide(rules)
        if not _are_apart(first.tags, later.tags)
    ]
    warnings += [
        f"rules {first.name!r} and {later.name!r} move the channel {channel} of {later.app} to the "
        "images of two repositories in turn: give each a channel of its own"
        for first, later, channel in channels_of_two(rules)
    ]
    repositories = {rule.repository for rule in rules}
    for repository in settings.links:
        if repository not in repositories:
            near = did_you_mean(repository, repositories)
            hint = "" if near is None else f"; did you mean {near}?"
            warnings.append(f"[links] names {repository}, but no rule does{hint}")
    return warnings


def _are_apart(first: TagPattern, second: TagPattern) -> bool:
    """Return whether both are ranges of versions without a version in common."""
    if not isinstance(first, SemverRange) or not isinstance(second, SemverRange):
        return False
    return not any(_may_overlap((*one, *other)) for one in first.any_of for other in second.any_of)


def _may_overlap(intervals: Sequence[Interval]) -> bool:
    lows = [one.low for one in intervals if one.low is not None and not one.outside]
    highs = [one.high for one in intervals if one.high is not None and not one.outside]
    return not lows or not highs or max(lows) < min(highs)


def _of_secrets(settings: Settings) -> list[str]:
    warnings = []
    if not (settings.public_url or "https://").lower().startswith("https://"):
        warnings.append("public_url is not https: the link, which is a secret, is sent unencrypted")
    if any(len(key.reveal()) < GOOD_KEY for key in settings.secret_keys):
        warnings.append(
            f"a key in RECEIVER_SECRET_KEY is shorter than {GOOD_KEY} characters: anyone who has a "
            f"link can try to guess it. Make a longer one with: {MAKE_A_KEY}  and put it "
            "before this key with a comma; remove this key when all links are replaced"
        )
    password = settings.admin_password
    if password is not None and len(password.reveal()) < GOOD_PASSWORD:
        warnings.append(
            f"RECEIVER_ADMIN_PASSWORD is shorter than {GOOD_PASSWORD} characters: anyone who finds "
            "the page can try to guess it"
        )
    return warnings


def _of_catch_up(settings: Settings) -> list[str]:
    every, repositories = settings.catch_up_every, {rule.repository for rule in settings.rules}
    if every is None:
        return []
    warnings = []
    if len(repositories) * UNITS["m"] / every > CALLS_A_MINUTE / 2:
        warnings.append(
            f"catch-up queries Docker Hub for {len(repositories)} repositories every "
            f"{every // 1000} s, close to its limit of {CALLS_A_MINUTE} calls a minute: raise "
            "catch_up.every"
        )
    if settings.keep < 2 * every:
        warnings.append(
            "ledger.keep is shorter than two periods of catch_up.every: a missed push "
            "may be purged before catch-up can find it"
        )
    return warnings


def link_length_fault(settings: Settings) -> tuple[str, str] | None:
    """Return the error of a public_url that makes a link too long, and the fix."""
    if settings.public_url is None or not settings.secret_keys:
        return None
    keys = LinkSigner([key.reveal() for key in settings.secret_keys], settings.links)
    url = settings.public_url
    length = max((len(keys.link(url, rule.repository)) for rule in settings.rules), default=0)
    if length <= MAX_URL:
        return None
    what = f"a link would be {length} characters long, but Docker Hub accepts {MAX_URL}"
    return what, "Use a shorter host name"
