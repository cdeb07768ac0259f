"""What a database said of its trouble, as one short line that holds no secret."""

from receiver.logs import masking

LONGEST = 200
DAMAGED = ("malformed", "not a database")  # in SQLite's words for it


def cause_of(error: Exception) -> str:
    """Return the driver's own words; masked before they are cut, or half a secret would pass."""
    cause = getattr(error, "orig", None) or error
    words = masking(" ".join(str(cause).split()))[:LONGEST] or type(cause).__name__
    if any(damaged in words for damaged in DAMAGED):
        return f"{words}: the file is damaged; stop the receiver and put a backup in its place"
    return words
