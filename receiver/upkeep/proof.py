"""A test push: Docker Hub's documented body, sent to the link through the public URL.

It registers nothing: its media type is not an image's, and every receiver ignores that. That it
reaches this receiver is shown by the ledger, which has the delivery that the response names.
"""

import json
import time
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx

from receiver.dockerhub.webhook import body_of_test_push
from receiver.errors import LedgerError, ReceiverError
from receiver.http.body import NO_ANSWER, ask
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import find_push
from receiver.reasons import Reason

SECONDS = 15.0
LARGEST = 64 * 1024
RUN_IT = "Start `receiver serve`; check public_url, and the tunnel or proxy in front"


class NotProven(ReceiverError):
    """A test push that did not reach this receiver."""


async def send_test_push(http: httpx.AsyncClient, link: str, repository: str) -> str:
    """Send it, and return the id of the delivery as which it was recorded. Raises NotProven."""
    where = f"the public URL {_origin(link)}"
    body = body_of_test_push(repository, int(time.time()))
    try:
        response, content = await ask(
            http, "POST", link, largest=LARGEST, seconds=SECONDS, body=body
        )
    except NO_ANSWER:
        raise NotProven(f"nothing answers at {where} from this machine. {RUN_IT}") from None
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    status = response.status_code
    if isinstance(answer, dict):
        if status == HTTPStatus.OK and answer.get("reason") == Reason.TEST_PUSH:
            return str(answer.get("delivery"))
        if status == HTTPStatus.NOT_FOUND and answer.get("error") == "not found":
            raise NotProven(
                f"a receiver answers at {where}, but it does not accept the link: it runs with "
                "another RECEIVER_SECRET_KEY or other [links]. Reload or restart it"
            )
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            raise NotProven(
                f"the receiver at {where} did not accept the test (HTTP {status}): see its log, "
                "and try again"
            )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise NotProven(
            f"{where} redirects (HTTP {status}), which Docker Hub may not follow. Set public_url "
            "to the address that it redirects to"
        )
    raise NotProven(f"what answers at {where} is not this receiver (HTTP {status}). {RUN_IT}")


async def check_recorded(ledger: Ledger, delivery: str, link: str) -> None:
    """Check that this ledger has the delivery; raises NotProven."""
    try:
        ledger.open_readonly()
        row = await ledger.read(lambda tx: find_push(tx, delivery))
    except LedgerError as error:
        raise NotProven(
            f"a receiver recorded the test as {delivery}, but the ledger here cannot be read: "
            f"{error}. Run this command where the receiver runs"
        ) from None
    if row is None or str(row.reason) != Reason.TEST_PUSH:
        raise NotProven(
            f"the receiver at the public URL {_origin(link)} recorded the test as {delivery}, and "
            "the ledger here does not have it: another receiver with the same key answers there, "
            "or DATABASE_URL differs"
        )


def _origin(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"
