"""The bodies that are sent: of a real shape and of a given size, with another tag each time."""

import json
from pathlib import Path

from tests.support.receiver_process import webhook_body

SMALL_BYTES = 2_000
LARGE_BYTES = 30_000
TAG_LETTERS = 20
_TAG = "t" * TAG_LETTERS
_PAYLOADS = Path(__file__).parent.parent / "payloads"
_TEXT = json.loads((_PAYLOADS / "2017-long-description.json").read_bytes())
_DESCRIPTION = str(_TEXT["repository"]["full_description"])


def body_around_tag(size: int) -> tuple[str, str]:
    """What comes before the tag and after it in a body of `size` bytes.

    A real long description fills it up to its size: most of a large webhook is one.
    """
    body = webhook_body(_TAG)
    text = _DESCRIPTION * (size // len(_DESCRIPTION) + 1)
    body["repository"]["full_description"] = ""
    room = size - len(json.dumps(body))
    low, high = 0, len(text)
    while low < high:  # escapes make a letter longer than a byte
        middle = (low + high + 1) // 2
        if len(json.dumps(text[:middle])) - 2 <= room:
            low = middle
        else:
            high = middle - 1
    body["repository"]["full_description"] = text[:low]
    before, _, after = json.dumps(body).partition(_TAG)
    return before, after


def body_of(size: int, tag: str) -> bytes:
    """A whole body; the tag is filled up to its length, so that all are of one size."""
    before, after = body_around_tag(size)
    return f"{before}{tag:0>{TAG_LETTERS}}{after}".encode()
