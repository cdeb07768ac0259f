"""RECEIVER_SECRET_KEY: a list of keys, and what is advised if there is none."""

from pathlib import Path

import pytest

from receiver.config.load import load_settings
from receiver.errors import ConfigError
from tests.unit.config.test_errors import NOTHING, faults


def test_if_there_is_a_ledger_nobody_is_advised_to_make_a_new_key(tmp_path: Path) -> None:
    """A new key ends every link that was pasted into Docker Hub."""
    url = f"sqlite:///{tmp_path}/receiver.db"
    need = frozenset({"RECEIVER_SECRET_KEY"})
    assert "secrets.token_urlsafe" in faults(NOTHING, need, DATABASE_URL=url)[0].hint

    (tmp_path / "receiver.db").touch()

    (fault,) = faults(NOTHING, need, DATABASE_URL=url)
    assert "token_urlsafe" not in fault.hint
    assert "set that key again" in fault.hint
    for wrong in (",", "short", "'',''", "a-key-that-is-long-enough-0123,short"):
        (fault,) = faults(NOTHING, need, DATABASE_URL=url, RECEIVER_SECRET_KEY=wrong)
        assert "token_urlsafe" not in fault.hint
        assert "set that key again" in fault.hint
        (shared,) = faults(
            NOTHING, need, DATABASE_URL="postgresql://a/b", RECEIVER_SECRET_KEY=wrong
        )
        assert shared.hint.startswith("Look first for the key that made the existing links")


@pytest.mark.parametrize("config", ["RECEIVER_CONFIG_TOML", "RECEIVER_CONFIG"])
def test_a_ledger_that_an_earlier_configuration_used_is_found(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was used with `data/receiver.toml`; now the text is in a variable, or elsewhere."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "receiver.db").touch()
    (tmp_path / "receiver.toml").touch()
    monkeypatch.chdir(tmp_path)
    text = {"RECEIVER_CONFIG_TOML": "#", "RECEIVER_CONFIG": "receiver.toml"}[config]

    with pytest.raises(ConfigError) as refused:
        load_settings({config: text}, need=frozenset({"RECEIVER_SECRET_KEY"}))

    assert "data/receiver.db were signed with a key" in refused.value.faults[0].hint


@pytest.mark.parametrize("text", [",", ",,", " , ", '"",""', "' '", "','"])
def test_a_list_of_no_keys_is_no_key(text: str) -> None:
    """`check` called it valid, and `link` and `serve` ended in an IndexError."""
    found = faults(NOTHING, frozenset({"RECEIVER_SECRET_KEY"}), RECEIVER_SECRET_KEY=text)

    assert [fault.where for fault in found] == ["RECEIVER_SECRET_KEY"]
