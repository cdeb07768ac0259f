"""Deliveries as plain text, for people at a terminal."""

from receiver.cli.output import colored
from receiver.ledger.views import (
    Delivery,
    DeliveryDetail,
    Registration,
    RegistrationDetail,
    TrialRun,
)
from receiver.reasons import State
from receiver.rules.rule import Mode
from receiver.timestamps import duration, format_time

DOES = {
    Mode.CREATE: "creates the version of this tag",
    Mode.CHANNEL: "moves a channel to this tag",
    Mode.TRIAL: "tries the version: one deployment",
}


HEADERS = ("RECEIVED (UTC)", "ID", "IMAGE", "VERDICT", "REGISTRATIONS")


def cells(delivery: Delivery) -> list[str]:
    """Return a delivery as one row of a list, with colors on a terminal."""
    image = f"{delivery.repository}:{delivery.tag or '(no tag)'}"
    registrations = ", ".join(
        colored(_printable(f"{row.app}/{row.version} {_state(row)}"), row.state)
        for row in delivery.registrations
    )
    verdict = delivery.verdict.value + (f" {delivery.reason}" if delivery.reason else "")
    return [
        format_time(delivery.received_at),
        delivery.id,
        _printable(image),
        colored(verdict, delivery.verdict),
        registrations,
    ]


def format_detail(delivery: DeliveryDetail) -> str:
    """Return one delivery in full: its push, its registrations, each attempt and the next step."""
    lines = [
        f"Delivery {delivery.id}",
        f"  received  {format_time(delivery.received_at)} by {delivery.source}"
        + (f", requested by {delivery.requested_by}" if delivery.requested_by else ""),
        f"  image     {delivery.repository}:{delivery.tag or '(no tag)'}"
        + (f", pushed by {delivery.pusher}" if delivery.pusher else "")
        + (f" at {format_time(delivery.pushed_at)}" if delivery.pushed_at else ""),
        f"  verdict   {delivery.verdict}" + (f", {delivery.reason}" if delivery.reason else ""),
    ]
    if delivery.sentence:
        lines += _indented(delivery.sentence, "            ")
    for registration in delivery.registrations:
        lines += ["", *_registration_lines(registration)]
    return "\n".join(_printable(line) for line in lines)


def _registration_lines(registration: RegistrationDetail) -> list[str]:
    image = f"docker.io/{registration.repository}:{registration.tag}"
    held = [gate.sentence for gate in registration.held_back]
    lines = [
        f"Registration {registration.id}: {registration.app}/{registration.version}",
        f"  rule      {registration.rule}",
        f"  does      {DOES[registration.mode]}",
        f"  image     {image}" + (f"@{registration.digest}" if registration.digest else ""),
        f"  state     {_state(registration)}"
        + (
            f", due {format_time(registration.due_at)}"
            if registration.state is State.WAITING and not held
            else ""
        ),
    ]
    for gate in registration.held_back:
        until = f" (until {format_time(gate.until_at)})" if gate.until_at is not None else ""
        lines += _indented(gate.sentence + until, "  blocked   ")
    if registration.deleted_at:
        lines.append(
            f"  deleted   {format_time(registration.deleted_at)}, {registration.deleted_why}"
        )
    if registration.dismissed_at:
        lines.append(
            f"  dismissed {format_time(registration.dismissed_at)} by "
            f"{registration.dismissed_by}"
            f"; `receiver dismiss --undo {registration.id}` parks it again"
        )
    if registration.overwritten:
        lines.append("  warning   the tag was overwritten: Edgegap's edge may run the old image")
    if registration.sentence and registration.sentence not in held:
        over = "  result    " if registration.state is State.DONE else "  next step "
        label = "  was       " if registration.dismissed_at else over
        lines += [label + line.lstrip() for line in _indented(registration.sentence, "")[:1]]
        lines += _indented("\n".join(registration.sentence.split("\n")[1:]), "            ")
    if registration.trial is not None:
        lines += trial_lines(registration.trial)
    if registration.approval is not None:
        given = registration.approval
        place = f" from {given.address}" if given.address else ""
        lines.append(f"  approved  {format_time(given.at)} by {given.approver}{place}")
    lines += [f"  note      {note}" for note in registration.notes]
    if len(registration.deliveries) > 1:
        lines.append(f"  from      {len(registration.deliveries)} deliveries")
    for call in registration.requests:
        status = call.status if call.status is not None else "no answer"
        took = f" in {call.milliseconds} ms" if call.milliseconds is not None else ""
        message = f": {call.message}" if call.message else ""
        message += "  (checks the API token)" if call.path == "/v1/apps" else ""
        lines.append(
            f"  attempt {call.attempt}  {format_time(call.at)}  "
            f"{call.method} {call.path}"
            f"  {status}{took}{message}"
        )
    return lines


def trial_lines(run: TrialRun) -> list[str]:
    """Return the run of a trial: its verdict, how long, how it ended, the last log lines."""
    verdict = {True: "passed", False: "failed", None: "no verdict yet"}[run.passed]
    parts = [verdict]
    if run.ready_at is not None and run.requested_at is not None:
        parts.append(f"Ready after {duration(run.ready_at - run.requested_at)}")
    if run.ready_at is not None and run.decided_at is not None:
        parts.append(f"watched for {duration(run.decided_at - run.ready_at)}")
    if run.exit_code is not None:
        parts.append(f"exit code {run.exit_code}")
    if run.requested_at is not None and run.stopped_at is None:
        parts.append("its deployment still runs")
    lines = [f"  trial     {', '.join(parts)}"]
    if run.deployment is not None:
        lines.append(f"  deployed  {run.deployment}")
    if run.why:
        lines.append(f"  because   {run.why}")
    return lines + [f"  log       {line}" for line in run.log]


def _state(registration: Registration) -> str:
    detail = registration.outcome or registration.reason
    deleted = ", later deleted" if registration.deleted_at else ""
    return f"{registration.state}" + (f" {detail}" if detail else "") + deleted


def _printable(line: str) -> str:
    """Return the line with control characters replaced: parts of it come from outside."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in line)


def _indented(text: str, margin: str) -> list[str]:
    return [margin + line for line in text.split("\n") if line]
