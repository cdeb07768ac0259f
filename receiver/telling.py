"""Rows of the ledger told to people and machines: JSON with times as ISO 8601, or plain text."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

Row = Mapping[str, Any]
DOES = {"create": "creates the version of this tag", "channel": "moves a channel to this tag"}
TIMES = frozenset({"at", "pushed_at"})


def as_json(row: Row) -> dict[str, Any]:
    """Return the row for JSON: epoch milliseconds become UTC times people can read."""
    return {key: _plain(key, value) for key, value in row.items()}


def iso(milliseconds: int | str) -> str:
    """Return epoch milliseconds as ISO 8601, UTC, to the millisecond; told already, it stays."""
    if isinstance(milliseconds, str):
        return milliseconds
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def one_line(delivery: Row) -> str:
    """Return a delivery as one line of a list."""
    tag = delivery["tag"] or "(no tag)"
    what = f"{delivery['repository']}:{tag}"
    became = ", ".join(
        f"{one['app']}/{one['version']} {_standing(one)}" for one in delivery["registrations"]
    )
    verdict = delivery["verdict"] + (f" {delivery['reason']}" if delivery["reason"] else "")
    parts = [iso(delivery["received_at"]), delivery["id"], what, verdict]
    return _harmless("  ".join([*parts, became] if became else parts))


def whole_story(delivery: Row) -> str:
    """Return everything there is about one delivery: what came, who decided, what to do now."""
    lines = [
        f"Delivery {delivery['id']}",
        f"  came      {iso(delivery['received_at'])} by {delivery['source']}",
        f"  tells of  {delivery['repository']}:{delivery['tag'] or '(no tag)'}"
        + (f", pushed by {delivery['pusher']}" if delivery["pusher"] else "")
        + (f" at {iso(delivery['pushed_at'])}" if delivery["pushed_at"] else ""),
        f"  verdict   {delivery['verdict']}"
        + (f", {delivery['reason']}" if delivery["reason"] else ""),
    ]
    if delivery["sentence"]:
        lines += _indented(delivery["sentence"], "            ")
    for registration in delivery["registrations"]:
        lines += ["", *_registration_lines(registration)]
    return "\n".join(_harmless(line) for line in lines)


def _registration_lines(one: Row) -> list[str]:
    image = f"docker.io/{one['repository']}:{one['tag']}"
    held = [gate["sentence"] for gate in one["held_back"]]
    lines = [
        f"Registration {one['id']}: {one['app']}/{one['version']}",
        f"  rule      {one['rule']}",
        f"  does      {DOES.get(one['mode'], one['mode'])}",
        f"  image     {image}" + (f"@{one['digest']}" if one["digest"] else ""),
        f"  state     {_standing(one)}"
        + (f", due {iso(one['due_at'])}" if one["state"] == "waiting" and not held else ""),
    ]
    for gate in one["held_back"]:
        until = f" (until {iso(gate['until_at'])})" if gate["until_at"] is not None else ""
        lines += _indented(gate["sentence"] + until, "  held      ")
    if one["overwritten"]:
        lines.append("  warning   the tag was pushed over: Edgegap's edge may run the old image")
    if one["sentence"] and one["sentence"] not in held:
        lines += ["  do        " + line.lstrip() for line in _indented(one["sentence"], "")[:1]]
        lines += _indented("\n".join(one["sentence"].split("\n")[1:]), "            ")
    lines += [f"  note      {note}" for note in one["notes"]]
    if len(one["deliveries"]) > 1:
        lines.append(f"  told by   {len(one['deliveries'])} deliveries")
    for call in one["attempts"]:
        status = call["status"] if call["status"] is not None else "no answer"
        took = f" in {call['milliseconds']} ms" if call["milliseconds"] is not None else ""
        message = f": {call['message']}" if call["message"] else ""
        message += "  (is the token good at all?)" if call["path"] == "/v1/apps" else ""
        lines.append(
            f"  attempt {call['attempt']}  {iso(call['at'])}  {call['method']} {call['path']}"
            f"  {status}{took}{message}"
        )
    return lines


def _standing(registration: Row) -> str:
    detail = registration["outcome"] or registration["reason"]
    return f"{registration['state']}" + (f" {detail}" if detail else "")


def _harmless(line: str) -> str:
    """Return the line without what would end it, or draw on a terminal: outsiders write parts."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def _indented(text: str, margin: str) -> list[str]:
    return [margin + line for line in text.split("\n") if line]


def _plain(key: str, value: Any) -> Any:
    if isinstance(value, int) and (key in TIMES or key.endswith("_at")):
        return iso(value)
    if isinstance(value, Mapping):
        return as_json(value)
    if isinstance(value, list):
        return [as_json(item) if isinstance(item, Mapping) else item for item in value]
    return value
