"""Times as people write them on the command line; as everywhere, in UTC."""

from datetime import UTC, datetime, timedelta

from receiver.cli.exits import USAGE, CommandError

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> int:
    """Return a date, a time or an age (`2h`, `3d ago`) as epoch milliseconds.

    A time without a zone is UTC, as in all output.
    """
    ago = text.strip().removesuffix("ago").rstrip()
    number, unit = ago[:-1], ago[-1:]
    try:
        if number.isdecimal() and unit in UNITS:
            moment = datetime.now(UTC) - timedelta(**{UNITS[unit]: int(number)})
        else:
            moment = datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(0, int(moment.timestamp() * 1000))
    except (ValueError, OverflowError):
        raise CommandError(
            f"{text!r} is not a time: write 2026-11-23T17:00 (in UTC), 2h or 3d", USAGE
        ) from None
