"""Views as JSON and back: times are ISO 8601 text in UTC."""

from typing import TypeVar

import msgspec

from receiver.ledger.views import from_plain, to_plain

T = TypeVar("T")

_encoder = msgspec.json.Encoder(enc_hook=to_plain)


def encode(view: object) -> bytes:
    """Return a view, or a list of views, as JSON."""
    return _encoder.encode(view)


def decode(content: bytes, kind: type[T]) -> T:
    """Read JSON as this type; raises msgspec.DecodeError."""
    return msgspec.json.decode(content, type=kind, dec_hook=_from_json)


def _from_json(kind: type, value: object) -> object:
    return from_plain(kind, value if isinstance(value, str) else None)
