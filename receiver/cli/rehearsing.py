"""`receiver push --dry-run`: what would be sent, with secrets masked. Reads, never writes."""

from http import HTTPStatus
from typing import Any

import httpx

from receiver.asking import why_refused
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
from receiver.explanations import explain
from receiver.images import ImageReference
from receiver.ledger.registrations import Claimed
from receiver.preflight import Cleared, NotYet, Out, Preflight, Stopped, preflight_over
from receiver.reasons import Reason
from receiver.retry import Call, Waited
from receiver.rules import Match, Mode, Rule, channels_of, moving_versions, rule_on
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
    connect = edgegap_client(settings.edgegap_base_url, token, pace, settings.secrets())
    async with connect as client, httpx.AsyncClient() as http:
        preflight = preflight_over(http, settings)
        for match in ruling.matches:
            rule = settings.rule_named(match.rule)
            if rule is None:
                continue
            for one in (match, *channels_of(rule)):
                where, told = await _rehearse_one(settings, client, rule, one, image)
                unless = told.pop("unless_public", None)
                if unless is not None and not await _is_public(preflight, rule, image):
                    where, told = _parked(unless.reason, unless.sentence)
                if where == "requests" and one is match:
                    where, told = await _looked_at(preflight, rule, image, told)
                found[where].append({"app": one.app, "version": one.version, **told})
                if where == "parked":
                    break  # a channel follows its push's own version
    return found


async def _looked_at(
    preflight: Preflight, rule: Rule, image: ImageReference, told: Found
) -> tuple[str, Found]:
    """Return what is to be sent, or why it would not be, once the image has been looked at."""
    if not rule.preflight or told["method"] is None:
        return "requests", told
    findings = await preflight.look(image, rule)
    if isinstance(findings, Stopped):
        return _parked(findings.parking.reason, findings.parking.sentence)
    if isinstance(findings, NotYet):
        facts = {"image": image, "detail": findings.calls[-1].message}
        return _parked(Reason.IMAGE_NOT_READY, explain(Reason.IMAGE_NOT_READY, **facts))
    if isinstance(findings, Out):
        notes = [f"the image could not be looked at now: {findings.detail}"]
    else:
        notes = list(findings.notes)
    return "requests", {**told, "notes": [*told["notes"], *notes]}


async def _is_public(preflight: Preflight, rule: Rule, image: ImageReference) -> bool:
    """Return whether the image can be pulled without a login; False if that is not known."""
    return rule.preflight and isinstance(await preflight.look(image, rule), Cleared)


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
        if match.mode is not Mode.CREATE:
            method, path = "PATCH", version_path(match.app, match.version)
            plan = plan_update(wanted, look.body)
        elif same_image(look.body, image):
            return "requests", {"method": None, "sentence": "Edgegap has it already: unchanged."}
        else:
            facts = {"app": match.app, "version": match.version, "detail": image_of(look.body)}
            return _parked(Reason.NAME_TAKEN, explain(Reason.NAME_TAKEN, **facts))
    elif look.says(HTTPStatus.NOT_FOUND):
        catalogue, moving = Catalogue(client), moving_versions(settings.rules, match.app)
        source = await catalogue.source(match.app, rule.copy_from, of=match.version, without=moving)
        if source.calls and not source.calls[-1].ok:
            facts = {"rule": rule.name, "app": match.app, "copy_from": rule.copy_from}
            last = source.calls[-1]
            if rule.copy_from != NEWEST and last.says(HTTPStatus.NOT_FOUND):
                reason = Reason.COPY_FROM_MISSING
                return _parked(reason, explain(reason, **facts))
            return _parked(*await why_refused(client, Call.LIST, last, **facts))
        method, path = "POST", version_path(match.app)
        plan = plan_creation(wanted, source.version, source.passed_over)
    else:
        facts = {"rule": rule.name, "app": match.app}
        return _parked(*await why_refused(client, Call.LOOK, look, **facts))
    if isinstance(plan, Parking):
        return _parked(plan.reason, plan.sentence)
    told = _request(settings, method, path, plan)
    if match.mode is not Mode.CREATE and told["method"] is not None:
        told["notes"].append("only if no later push has moved it")
    return "requests", told


def _request(settings: Settings, method: str, path: str, plan: Plan) -> Found:
    if not plan.body:
        return {"method": None, "sentence": "Nothing would change: unchanged."}
    return {
        "method": method,
        "url": f"{settings.edgegap_base_url}{path}",
        "headers": {"Authorization": "token ***", "Content-Type": "application/json"},
        "body": masked(plan.body),
        "notes": list(plan.notes),
        "unless_public": plan.unless_public,
    }


def _parked(reason: Reason, sentence: str) -> tuple[str, Found]:
    return "parked", {"reason": reason.value, "sentence": sentence}
