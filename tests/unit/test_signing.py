"""Links and their tokens: good for one repository, revocable by number, kept over a new key."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from receiver.config.load import load_settings
from receiver.config.settings import Settings
from receiver.errors import BadLink
from receiver.images import ImageReference
from receiver.logs import masking
from receiver.signing import (
    APPROVAL_PATH,
    LINK_SALT,
    MAX_APPROVAL,
    MAX_URL,
    ApiToken,
    ApiTokenSigner,
    Approvable,
    ApprovalSigner,
    ApprovalToken,
    LinkSigner,
)
from receiver.web.page.sessions import Sessions

OLD, NEW = "old-key-" * 5, "new-key-" * 5
STUDIO = "studio/game-server"
NAMES = st.from_regex(r"[a-z0-9]{1,30}/[a-z0-9]{1,30}", fullmatch=True)


def keys(*oldest_first: str) -> LinkSigner:
    return LinkSigner(oldest_first or (NEW,), {})


def refuses(links: LinkSigner, token: str) -> bool:
    try:
        links.repository(token)
    except BadLink:
        return True
    return False


@given(NAMES, st.integers(1, 10_000))
def test_a_token_is_good_for_its_repository(repository: str, number: int) -> None:
    links = LinkSigner([NEW], {repository: number})

    assert links.repository(links.token(repository)) == repository


def test_a_token_holds_only_what_docker_hub_takes_in_a_url() -> None:
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", keys().token(STUDIO))


def test_a_raised_number_revokes_that_repositorys_links_and_no_others() -> None:
    before, after = keys(), LinkSigner([NEW], {STUDIO: 2})
    revoked, kept = before.token(STUDIO), before.token("studio/lobby")

    with pytest.raises(BadLink, match=r"link 1 of studio/game-server is revoked, 2"):
        after.repository(revoked)
    assert after.repository(kept) == "studio/lobby"
    assert after.repository(after.token(STUDIO)) == STUDIO


def test_a_link_of_the_future_is_no_good_after_the_number_is_set_back() -> None:
    assert refuses(keys(), LinkSigner([NEW], {STUDIO: 2}).token(STUDIO))


def test_the_number_is_1_where_none_is_written() -> None:
    assert LinkSigner([NEW], {STUDIO: 1}).token(STUDIO) == keys().token(STUDIO)


def test_an_old_key_keeps_its_links_alive_and_the_new_one_signs() -> None:
    rotated = keys(OLD, NEW)

    assert rotated.repository(keys(OLD).token(STUDIO)) == STUDIO
    assert rotated.token(STUDIO) == keys(NEW).token(STUDIO)
    assert refuses(keys(OLD), rotated.token(STUDIO))


def test_the_list_in_the_environment_is_newest_first() -> None:
    settings: Settings = load_settings(
        {"RECEIVER_SECRET_KEY": f"{NEW}, {OLD}", "RECEIVER_CONFIG_TOML": " "}
    )
    links = LinkSigner([key.reveal() for key in settings.secret_keys], {})

    assert links.token(STUDIO) == keys(NEW).token(STUDIO)
    assert links.repository(keys(OLD).token(STUDIO)) == STUDIO


def test_a_key_taken_out_takes_its_links_with_it() -> None:
    assert refuses(keys(NEW), keys(OLD).token(STUDIO))


def test_a_link_is_the_public_url_the_path_and_the_token() -> None:
    token = keys().token(STUDIO)

    for url in ("https://hooks.example.com", "https://hooks.example.com/"):
        link = keys().link(url, STUDIO)
        assert link == f"https://hooks.example.com/hooks/dockerhub/{token}"


def test_ordinary_names_stay_well_within_docker_hubs_limit() -> None:
    longest_account, long_name = "a" * 30, "b" * 60

    assert len(keys().link("https://hooks.example.com", f"{longest_account}/{long_name}")) < MAX_URL


def test_the_longest_name_still_makes_a_good_token() -> None:
    repository = "a/" + "0123456789abcdefghijklmnopqrstuvwxyz" * 7

    assert keys().repository(keys().token(repository)) == repository


@given(st.text() | st.text("ABCabc012_-.=", max_size=120))
def test_no_made_up_token_opens_anything(token: str) -> None:
    assert refuses(keys(), token)


@given(st.data())
def test_a_token_changed_anywhere_opens_nothing_else(data: st.DataObject) -> None:
    links = keys()
    token = links.token(STUDIO)
    place = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.characters())
    changed = token[:place] + letter + token[place + 1 :]

    # The last letter of a signature carries two spare bits: such a twin is the same signature.
    assert refuses(links, changed) or links.repository(changed) == STUDIO
    assert refuses(links, changed) or (changed[:-1] == token[:-1])


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "A" * 100_000,
        "." * 513,
        "\x00",
        "é",
        "\ud800",
        "../../login",
        "%2e%2e",
        "eyJ.eyJ.sig",
        ".eJxLSgQAAk0BJg.x",  # compressed, unsigned
    ],
)
def test_a_hostile_token_is_refused_without_a_fault(token: str) -> None:
    assert refuses(keys(), token)
    assert refuses(keys(), token)  # nor is it remembered as good


@pytest.mark.parametrize(
    "payload",
    [
        None,
        [],
        "studio/game-server",
        [STUDIO],
        [STUDIO, "1"],
        [STUDIO, 1, 2],
        ["Not/one", 1],
        [1, STUDIO],
        {"repository": STUDIO, "number": 1},
        ["api", 4_000_000_000],
    ],
)
def test_signed_by_us_but_no_link(payload: object) -> None:
    serializer = URLSafeSerializer(
        NEW, salt=LINK_SALT, signer_kwargs={"digest_method": hashlib.sha256}
    )

    with pytest.raises(BadLink, match="signed by us, but not a link"):
        keys().repository(str(serializer.dumps(payload)))


def test_tokens_for_one_purpose_are_no_good_for_another() -> None:
    api = ApiTokenSigner([NEW])

    assert refuses(keys(), api.sign(ApiToken("0" * 16, 4_000_000_000)))
    assert api.read(keys().token(STUDIO), now=0) is None


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.none() | st.just(STUDIO))
def test_an_api_token_is_good_until_its_time(
    expires_at: int, now: int, repository: str | None
) -> None:
    api = ApiTokenSigner([NEW])

    token = ApiToken("0" * 16, expires_at, repository)

    assert api.read(api.sign(token), now) == (token if now < expires_at else None)


@given(st.text() | st.text("ABCabc012_-.=", max_size=120))
def test_no_made_up_text_is_an_api_token_or_a_session(text: str) -> None:
    assert ApiTokenSigner([NEW]).read(text, now=0) is None
    assert Sessions([NEW], "a-password").read(text, now=0) is None
    assert Sessions([NEW], "a-password").read_login(text, now=0) is None


def test_api_tokens_follow_the_keys() -> None:
    token = ApiTokenSigner([OLD]).sign(ApiToken("0" * 16, 100))

    assert ApiTokenSigner([OLD, NEW]).read(token, now=0) is not None
    assert ApiTokenSigner([NEW]).read(token, now=0) is None
    for hostile in ("", "é", "a" * 600, token[:-4], token + "x", "x." + token):
        assert ApiTokenSigner([OLD]).read(hostile, now=0) is None


def test_only_a_holder_of_the_key_is_given_a_proof_and_nobody_else_anything_to_guess_against() -> (
    None
):
    """Anyone could fetch an HMAC by the key and test guessed keys against it, offline."""
    ours, other = LinkSigner([OLD, NEW], {}), LinkSigner(["another-key-entirely-0123"], {})
    challenge = ours.challenge("nonce")

    assert ours.proof(challenge) == LinkSigner([OLD, NEW], {}).proof(challenge)
    assert ours.proof(challenge) != ours.proof(ours.challenge("other nonce"))
    for stranger in ("nonce", "", "x" * 600, "é", other.challenge("nonce"), ours.token(STUDIO)):
        assert ours.proof(stranger) is None
    with pytest.raises(BadLink):
        ours.repository(challenge)


def test_no_letter_of_a_token_may_change() -> None:
    """The last letter of base64 has bits that say nothing; they are not ours to overlook."""
    keys = LinkSigner(["a-key"], {})
    token = keys.token("studio/game-server")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

    for place in (len(token) - 1, token.index(".") - 1):
        for letter in set(letters) - {token[place]}:
            with pytest.raises(BadLink):
                keys.repository(token[:place] + letter + token[place + 1 :])


# Approval links: what they are bound to, and what is not read.

MOVE = Approvable("my-game", "prod", ImageReference("studio/game-server", "1.0"), "sha256:ab", 1)
TOKEN = ApprovalToken(MOVE, 1_800_000_000)


@pytest.mark.parametrize("digest", ["sha256:ab", None])
def test_a_token_holds_the_move_and_its_end(digest: str | None) -> None:
    token = ApprovalToken(Approvable("my-game", "prod", MOVE.image, digest, 5), 1_800_000_000)
    link = ApprovalSigner(["old", "new"]).link("https://hooks.example.com/", token)

    assert link.startswith("https://hooks.example.com/approve/")
    assert ApprovalSigner(["old", "new", "newer"]).read(link.rpartition("/")[2]) == token


def test_only_our_own_signature_for_this_purpose_is_read() -> None:
    signer = ApprovalSigner(["key"])
    text = signer.sign(TOKEN)
    foreign = URLSafeSerializer("key", salt=LINK_SALT).dumps(["a", "b", "c", "d", None, 1, 1])

    for bad in ("", "x", text[:-1], f"{text}x", text.swapcase(), foreign, "ä", "x" * 5000):
        assert signer.read(str(bad)) is None
    assert ApprovalSigner(["another"]).read(text) is None
    assert len(text) < MAX_APPROVAL


def test_a_link_is_masked_in_whatever_is_logged() -> None:
    link = ApprovalSigner(["key"]).link("https://hooks.example.com", TOKEN)

    assert masking(f'"GET {link} HTTP/1.1" 200') == (
        f'"GET https://hooks.example.com{APPROVAL_PATH}*** HTTP/1.1" 200'
    )
