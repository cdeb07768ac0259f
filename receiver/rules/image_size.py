"""Sizes of images, in decimal units as Docker shows them: read, written, and compared. Pure."""

import re

SIZE = r"[0-9]{1,6}(?:\.[0-9]{1,3})? ?(?:MB|GB)"
_SIZE = re.compile(r"(?P<whole>[0-9]{1,6})(?:\.(?P<rest>[0-9]{1,3}))? ?(?P<unit>MB|GB)")
_DIGITS = {"MB": 6, "GB": 9}
_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
TENTHS = 10


def read_size(text: object) -> int | None:
    """Return a size such as `4GB`, `1.5 GB` or `800MB` in bytes; None for any other text."""
    found = _SIZE.fullmatch(text.strip() if isinstance(text, str) else "")
    if found is None:
        return None
    return int(found["whole"] + (found["rest"] or "").ljust(_DIGITS[found["unit"]], "0")) or None


def size_text(size: int) -> str:
    """Return a size in bytes as `1.9 GB`."""
    unit, name = next((one for one in _UNITS if size >= one[0]), (1, "bytes"))
    tenths = (size * TENTHS + unit // 2) // unit if unit > 1 else size * TENTHS
    whole, rest = divmod(tenths, TENTHS)
    return f"{whole}.{rest} {name}" if rest and whole < TENTHS * TENTHS else f"{whole} {name}"


def size_note(size: int, before: tuple[str, int] | None) -> str:
    """Return the note about the size; `before` is the previous version's name and size."""
    text = f"the image has {size_text(size)}, compressed"
    if before is None or before[1] <= 0:
        return text
    name, earlier = before
    percent = round(abs(size - earlier) * 100 / earlier)
    if percent == 0:
        return f"{text}, as {name} has"
    return f"{text}, {percent} % {'more' if size > earlier else 'less'} than {name}"
