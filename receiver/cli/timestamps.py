"""Times as people write them on the command line; as everywhere, in UTC."""

from datetime import UTC, datetime, timedelta

from receiver.cli.exits import USAGE, CommandError

EARLIEST_YEAR = 1900  # an earlier one is a typing error
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> int:
    """Return a date, a time or an age (`2h`, `3d ago`) as epoch milliseconds.

    A time without a zone is UTC, as in all output.
    """
    try:
        read = _read(text.strip())
        if read.year >= EARLIEST_YEAR:
            return max(0, int(read.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    raise CommandError(f"{text!r} is not a time: write 2026-11-23T17:00 (in UTC), 2h or 3d", USAGE)


def _read(text: str) -> datetime:
    ago = text.removesuffix("ago").rstrip()
    number, unit = ago[:-1], ago[-1:]
    if number.isdecimal() and unit in UNITS:
        return datetime.now(UTC) - timedelta(**{UNITS[unit]: int(number)})
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)
