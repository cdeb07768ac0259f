"""What a rule requests of Edgegap for an image: the same for an attempt, and to show it before."""

from receiver.config.settings import Settings
from receiver.edgegap.plans import DesiredVersion
from receiver.images import ImageReference
from receiver.ledger.registrations import Claimed
from receiver.rules.rule import Rule


def wanted_by(rule: Rule, claimed: Claimed, settings: Settings) -> DesiredVersion:
    """Return the version that the current rule requests for a claimed registration."""
    return wanted_of(rule, claimed.app, claimed.version, claimed.image, settings)


def wanted_of(
    rule: Rule, app: str, version: str, image: ImageReference, settings: Settings
) -> DesiredVersion:
    """Return the version or the channel that a rule requests for an image."""
    return DesiredVersion(
        app=app,
        version=version,
        rule=rule.name,
        image=image,
        copy_from=rule.copy_from,
        settings=rule.settings,
        leave_out=rule.leave_out,
        login=rule.login,
        api_token=settings.edgegap_token,
    )
