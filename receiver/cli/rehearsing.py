"""`receiver push --dry-run`: what would be sent, with secrets masked. Reads, never writes."""

from typing import Any

from receiver.dockerhub.push import Push
from receiver.edgegap.answers import version_path
from receiver.edgegap.catalogue import NEWEST, Catalogue
from receiver.edgegap.client import EdgegapClient, edgegap_client
from receiver.edgegap.pace import Pace
from receiver.edgegap.versions import (
    Parking,
    Plan,
    image_of,
    masked,
    plan_creation,
    plan_update,
    same_image,
)
from receiver.images import ImageReference
from receiver.ledger.registrations import Claimed
from receiver.reasons import Reason, explain
from receiver.retry import Waited
from receiver.rules import Match, Mode, Rule, rule_on
from receiver.secret import Secret
from receiver.settings import Settings
from receiver.wanting import wanted_by

Found = dict[str, Any]


async def rehearse(settings: Settings, image: ImageReference) -> Found:
    """Return what a push of the image would lead to: its verdict and each request."""
    ruling = rule_on(Push(repository=image.repository, tag=image.tag), settings.rules)
    found: Found = {
        "image": str(image),
        "verdict": ruling.verdict.value,
        "reason": ruling.reason,
        "sentence": ruling.sentence,
        "requests": [],
        "parked": [],
    }
    pace = Pace(settings.requests_per_second, settings.concurrency)
    token = settings.edgegap_token or Secret("")
    async with edgegap_client(settings.edgegap_base_url, token, pace, settings.secrets()) as client:
        for match in ruling.matches:
            rule = settings.rule_named(match.rule)
            if rule is None:
                continue
            where, told = await _rehearse_one(settings, client, rule, match, image)
            found[where].append({"app": match.app, "version": match.version, **told})
    return found


async def _rehearse_one(
    settings: Settings, client: EdgegapClient, rule: Rule, match: Match, image: ImageReference
) -> tuple[str, Found]:
    if match.invalid is not None:
        return _parked(Reason.VERSION_NAME_INVALID, match.invalid)
    claimed = Claimed(
        id="", rule=rule.name, app=match.app, version=match.version, mode=match.mode, image=image,
        push_time=0, attempt=1, fence=0, waited=Waited(), created_at=0,
    )  # fmt: skip
    wanted = wanted_by(rule, claimed, settings)
    look = await client.look(match.app, match.version)
    if look.ok and look.body is not None:
        if match.mode is Mode.UPDATE:
            method, path = "PATCH", version_path(match.app, match.version)
            plan = plan_update(wanted, look.body)
        elif same_image(look.body, image):
            return "requests", {"method": None, "sentence": "Edgegap has it already: unchanged."}
        else:
            facts = {"app": match.app, "version": match.version, "detail": image_of(look.body)}
            return _parked(Reason.NAME_TAKEN, explain(Reason.NAME_TAKEN, **facts))
    elif look.status == 404:  # noqa: PLR2004
        source = await Catalogue(client).source(match.app, rule.copy_from)
        if source.calls and not source.calls[-1].ok:
            missing = rule.copy_from != NEWEST
            reason = Reason.COPY_FROM_MISSING if missing else Reason.APP_MISSING
            facts = {"rule": rule.name, "app": match.app, "copy_from": rule.copy_from}
            return _parked(reason, explain(reason, **facts))
        method, path = "POST", version_path(match.app)
        plan = plan_creation(wanted, source.version)
    else:
        return _parked(Reason.EDGEGAP_UNREACHABLE, f"Edgegap could not be asked: {look.message}")
    if isinstance(plan, Parking):
        return _parked(plan.reason, plan.sentence)
    return "requests", _request(settings, method, path, plan)


def _request(settings: Settings, method: str, path: str, plan: Plan) -> Found:
    if not plan.body:
        return {"method": None, "sentence": "Nothing would change: unchanged."}
    return {
        "method": method,
        "url": f"{settings.edgegap_base_url}{path}",
        "headers": {"Authorization": "token ***", "Content-Type": "application/json"},
        "body": masked(plan.body),
        "notes": list(plan.notes),
    }


def _parked(reason: Reason, sentence: str) -> tuple[str, Found]:
    return "parked", {"reason": reason.value, "sentence": sentence}
