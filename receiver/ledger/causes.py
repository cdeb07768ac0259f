"""What a database said of its trouble, as one short line that holds no secret."""

from receiver.logs import masking

LONGEST = 200


def cause_of(error: Exception) -> str:
    """Return the driver's own words; masked before they are cut, or half a secret would pass."""
    cause = getattr(error, "orig", None) or error
    return masking(" ".join(str(cause).split()))[:LONGEST] or type(cause).__name__
