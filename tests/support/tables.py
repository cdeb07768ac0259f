"""The tables of a configuration, read as the receiver reads them."""

from collections.abc import Mapping
from typing import Any

from receiver.config.model import Configuration
from receiver.config.rule_tables import make_notices, make_rules
from receiver.config.tables import read_table
from receiver.errors import ConfigIssue
from receiver.images import Login
from receiver.notifications.destinations import Notice
from receiver.rules.rule import Rule


def read_rules(
    tables: object, environ: Mapping[str, str], login: Login | None, channels: object = ()
) -> tuple[tuple[Rule, ...], list[ConfigIssue]]:
    """Read the lists of `[[rule]]` and `[[channel]]` tables."""
    faults: list[ConfigIssue] = []
    file: dict[str, Any] = {"rule": tables} | ({"channel": channels} if channels != () else {})
    found = read_table(Configuration, file, faults)
    return make_rules(found.rule, found.channel, environ, login, faults), faults


def read_notices(
    tables: object, environ: Mapping[str, str], rules: list[Rule]
) -> tuple[tuple[Notice, ...], list[ConfigIssue]]:
    """Read the list of `[[notice]]` tables."""
    faults: list[ConfigIssue] = []
    found = read_table(Configuration, {"notice": tables}, faults)
    return make_notices(found.notice, environ, rules, faults), faults
