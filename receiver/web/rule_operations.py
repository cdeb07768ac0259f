"""The operations on rules, for the list in `operations.py`."""

from receiver.web import api, bodies
from receiver.web.api_operation import OK, api_operation
from receiver.web.operation import Group, Operation, returns, with_query, without_input
from receiver.web.rules import CheckedImage, RuleList


def of_rules() -> list[Operation]:
    """Return the operations on rules."""
    return [
        api_operation(
            "GET /api/rules", "listRules", Group.RULES,
            "The rules: what each matches, and what it does",
            without_input(api.list_rules),
            responses={OK: returns(RuleList, "All rules, in the order of the configuration.")},
        ),
        api_operation(
            "GET /api/check", "checkImage", Group.RULES,
            "Which rules match an image",
            with_query(bodies.CheckQuery, api.check),
            responses={
                OK: returns(CheckedImage, "The verdict, and what each rule of the repository does.")
            },
            description=(
                "Only the rules decide: nothing is recorded, and neither Docker Hub nor Edgegap is "
                "asked."
            ),
        ),
    ]  # fmt: skip
