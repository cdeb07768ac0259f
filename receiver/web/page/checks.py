"""The page that runs `receiver doctor`, catch-up and a test notification on a button."""

from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from receiver.doctor.finding import Health
from receiver.doctor.run import ChecksRun
from receiver.service import Service
from receiver.web.page.answers import answer_page
from receiver.web.page.auth import Page
from receiver.web.page.sessions import Session

COLOURS = {Health.PASS: "good", Health.WARN: "wait", Health.FAIL: "bad"}


def checks_page(checks: ChecksRun) -> Page:
    """Return the page of checks, which shows the last run in this process."""

    async def show_checks(service: Service, request: Request, session: Session) -> Response:
        counts = Counter(finding.health for finding in checks.findings)
        return answer_page(
            request, session, "checks.html",
            checks=checks, colours=COLOURS, failed=counts[Health.FAIL], warned=counts[Health.WARN],
            catching_up=service.settings.catch_up_every is not None,
            notices=[notice.name for notice in service.settings.notices],
        )  # fmt: skip

    return show_checks
