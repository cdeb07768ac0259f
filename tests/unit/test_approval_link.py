"""Approval links: what they are bound to, and what is not read."""

import pytest
from itsdangerous import URLSafeSerializer

from receiver.approval_link import (
    APPROVAL_PATH,
    LONGEST_APPROVAL,
    Approvable,
    ApprovalSigner,
    ApprovalToken,
)
from receiver.images import ImageReference
from receiver.logs import masking
from receiver.signing import LINK_SALT

MOVE = Approvable("my-game", "prod", ImageReference("studio/game-server", "1.0"), "sha256:ab")
TOKEN = ApprovalToken(MOVE, 1_800_000_000)


@pytest.mark.parametrize("digest", ["sha256:ab", None])
def test_a_token_holds_the_move_and_its_end(digest: str | None) -> None:
    token = ApprovalToken(Approvable("my-game", "prod", MOVE.image, digest), 1_800_000_000)
    link = ApprovalSigner(["old", "new"]).link("https://hooks.example.com/", token)

    assert link.startswith("https://hooks.example.com/approve/")
    assert ApprovalSigner(["old", "new", "newer"]).read(link.rpartition("/")[2]) == token


def test_only_our_own_signature_for_this_purpose_is_read() -> None:
    signer = ApprovalSigner(["key"])
    text = signer.sign(TOKEN)
    foreign = URLSafeSerializer("key", salt=LINK_SALT).dumps(["a", "b", "c", "d", None, 1])

    for bad in ("", "x", text[:-1], f"{text}x", text.swapcase(), foreign, "ä", "x" * 5000):
        assert signer.read(str(bad)) is None
    assert ApprovalSigner(["another"]).read(text) is None
    assert len(text) < LONGEST_APPROVAL


def test_a_link_is_masked_in_whatever_is_logged() -> None:
    link = ApprovalSigner(["key"]).link("https://hooks.example.com", TOKEN)

    assert masking(f'"GET {link} HTTP/1.1" 200') == (
        f'"GET https://hooks.example.com{APPROVAL_PATH}*** HTTP/1.1" 200'
    )
