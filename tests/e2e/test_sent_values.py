"""Hidden values that cannot be read back: a rotated one arrives with the next move."""

from pathlib import Path

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret, hash_of, is_hash_of
from tests.support.commands import commands_beside
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import APP, RULE

OLD, NEW = Secret("old-key-0123456789"), Secret("new-key-0123456789")
CONFIG = (
    RULE.replace("preflight = false", 'preflight = false\nversions = false\nchannels = ["dev"]')
    + 'envs = [{ key = "DB", value_from = "GAME_DB", is_hidden = true }]\n'
    + '[catch_up]\nevery = "off"\n'
)


def test_a_hash_is_of_its_values_by_any_of_the_keys_and_shows_nothing() -> None:
    known = hash_of("the-secret", [OLD])

    assert "the-secret" not in known
    assert is_hash_of(known, "the-secret", [OLD])
    assert is_hash_of(known, "the-secret", [OLD, NEW])  # a key was added: no value was rotated
    assert not is_hash_of(known, "another", [OLD])
    assert not is_hash_of(known, "the-secret", [NEW])
    assert hash_of("", [OLD]) == hash_of("the-secret", []) == ""


def test_a_rotated_value_is_sent_with_the_next_push_and_with_a_promotion_to_the_same(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    """What cannot be read counted as unchanged: the old secret stayed for ever."""

    def value() -> object:
        return sandbox.versions[APP, "dev"]["envs"][0]["value"]

    outcomes = []
    with serving(sandbox.app) as url:
        for secret, tag in (("canary-1", "1.0"), ("canary-2", "1.1"), ("canary-3", "")):
            environment = {"GAME_DB": secret}
            with receiver_here(tmp_path, url, config=CONFIG, environment=environment) as receiver:
                receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
                commands = commands_beside(receiver)
                if tag:
                    outcomes.append(receiver.ended(receiver.push(tag))["outcome"])
                promote = ("promote", APP, "dev", "--to", "1.1", "--json")
                for _ in range(0 if tag else 2):
                    delivery = commands.json_of(*promote)["delivery"]
                    outcomes.append(receiver.ended(delivery)["outcome"])
                assert value() == secret
                assert secret not in receiver.everything_written()

    assert outcomes == ["created", "updated", "updated", "unchanged"]
