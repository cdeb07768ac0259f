"""The settings that each version was last sent. A row is kept as long as the version is there."""

from collections.abc import Sequence

import msgspec

from receiver.edgegap.sent_settings import SentSettings, decode, encode
from receiver.images import ImageReference
from receiver.ledger.transaction import Tx
from receiver.rules.rule import Mode

_NOTE = """INSERT INTO sent_settings (app, version, registration_id, at, settings)
 VALUES (:app, :version, :id, :now, :settings)
 ON CONFLICT (app, version) DO UPDATE SET registration_id = excluded.registration_id,
  at = excluded.at, settings = excluded.settings
 WHERE NOT :planned_again OR sent_settings.registration_id <> excluded.registration_id"""
_LINK = "UPDATE sent_settings SET settings = :settings WHERE app = :app AND version = :version"
_OF = "SELECT at, settings FROM sent_settings WHERE app = :app AND version = :version"
# By the index `targets_by_push_time`: SQLite reads the tables of a CROSS JOIN in this order.
_PREVIOUS = """SELECT t.version FROM targets t CROSS JOIN sent_settings s
 WHERE s.app = t.app AND s.version = t.version
  AND t.app = :app AND t.repository = :repository AND t.mode = :mode AND t.version <> :version
  AND t.push_time > 0
 ORDER BY t.push_time DESC, t.version DESC LIMIT 1"""


class Sent(msgspec.Struct, frozen=True):
    """What a version was sent, and when (epoch ms)."""

    at: int
    settings: SentSettings


def note_sent(
    tx: Tx,
    app: str,
    version: str,
    settings: SentSettings,
    *,
    registration: str,
    planned_again: bool,
    created: bool,
) -> None:
    """Store what a version was sent.

    `planned_again`: it is not what was sent but the same plan, made again after a crash; what this
    registration stored when it sent it counts more. The size of the same image stays known, and so
    do the pull profiles, which stay linked unless the version was `created` just now.
    """
    known = sent_to(tx, app, version)
    if known is not None and settings.size is None and known.settings.image == settings.image:
        settings = msgspec.structs.replace(settings, size=known.settings.size)
    if known is not None and not created:
        settings = _with_profiles(settings, known.settings.pull_profiles, settings.pull_profiles)
    tx.run(
        _NOTE,
        app=app,
        version=version,
        id=registration,
        now=tx.now,
        settings=encode(settings),
        planned_again=planned_again,
    )


def note_linked(tx: Tx, app: str, version: str, profiles: Sequence[str]) -> None:
    """Add pull profiles that were linked to a version later than its settings were sent."""
    if not profiles or (sent := sent_to(tx, app, version)) is None:
        return
    settings = _with_profiles(sent.settings, sent.settings.pull_profiles, profiles)
    tx.run(_LINK, app=app, version=version, settings=encode(settings))


def _with_profiles(settings: SentSettings, *linked: Sequence[str]) -> SentSettings:
    profiles = tuple(dict.fromkeys(name for names in linked for name in names))
    return msgspec.structs.replace(settings, pull_profiles=profiles)


def sent_to(tx: Tx, app: str, version: str) -> Sent | None:
    """Return what a version was last sent, None if that is not known."""
    row = tx.run(_OF, app=app, version=version).first()
    settings = None if row is None else decode(row.settings)
    return None if row is None or settings is None else Sent(int(row.at), settings)


def size_before(
    tx: Tx, app: str, version: str, *, image: ImageReference, mode: Mode
) -> tuple[str, int] | None:
    """Return the name and the size of the image before this one; None if the size is not known.

    For a version it is that of the newest other version with an image of the repository, for a
    channel its last image.
    """
    name: str | None = version
    if mode is Mode.CREATE:
        found = {"app": app, "version": version, "repository": image.repository, "mode": mode.value}
        name = tx.run(_PREVIOUS, **found).scalar()
    sent = None if name is None else sent_to(tx, app, name)
    if name is None or sent is None or sent.settings.size is None:
        return None
    return (name if mode is Mode.CREATE else sent.settings.tag), sent.settings.size
