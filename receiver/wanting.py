"""From a rule and a registration to the version that is wanted of Edgegap."""

from receiver.edgegap.versions import LOGIN_VARIABLES, Wanted
from receiver.ledger.registrations import Claimed
from receiver.rules import Rule
from receiver.settings import Settings


def wanted_by(rule: Rule, claimed: Claimed, settings: Settings) -> Wanted:
    """Return the version that the rule, as it is now, wants of a claimed registration."""
    return Wanted(
        app=claimed.app,
        version=claimed.version,
        rule=rule.name,
        image=claimed.image,
        copy_from=rule.copy_from,
        settings=rule.settings,
        leave_out=rule.leave_out,
        username=rule.login.username if rule.login else None,
        token=rule.login.token if rule.login else None,
        login_variables=rule.login.variables if rule.login else LOGIN_VARIABLES,
        api_token=settings.edgegap_token,
    )
