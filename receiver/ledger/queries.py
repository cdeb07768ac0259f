"""Reading the ledger: lists of deliveries, all details of one, and the overview."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace
from sqlalchemy import (
    ColumnElement,
    Select,
    TextClause,
    and_,
    exists,
    func,
    or_,
    select,
    text,
)

from receiver.ledger.approvals import approval_of_registration, waiting_moves
from receiver.ledger.cursors import Cursor, read_cursors
from receiver.ledger.deliveries import DELIVERY
from receiver.ledger.gates import blockers, paused
from receiver.ledger.ids import first_id
from receiver.ledger.links import refused_links
from receiver.ledger.schema import deletions, deliveries, led_to, registrations
from receiver.ledger.stats import count_overwritten, has_targets, newest_version
from receiver.ledger.targets import STRETCH
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import shown_run
from receiver.ledger.views import (
    Delivery,
    DeliveryDetail,
    DeliveryPage,
    HeldBack,
    LedgerOverview,
    NewestPush,
    OpenRegistration,
    ParkedRegistration,
    Pause,
    RecentRegistration,
    Registration,
    RegistrationDetail,
    ReportedPush,
    RepositoryOverview,
    RuleOverview,
    SentRequest,
    read_view,
)
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Mode, OnOverwrite, Rule
from receiver.timestamps import Time

V = TypeVar("V")
MAX_ROWS = 1000
_RECEIVED = """SELECT d.address, d.user_agent, d.status, d.body_start, b.headers, b.body
 FROM deliveries d LEFT JOIN bodies b ON b.id = d.id WHERE d.id = :id"""
_DELIVERIES_OF = "SELECT delivery_id FROM led_to WHERE registration_id = :id ORDER BY delivery_id"
_REQUESTS_OF = "SELECT * FROM requests WHERE registration_id = :id ORDER BY attempt, step"
DEPTH = 20_000  # deliveries searched for one page, if no index supports the filter
COUNTED = 500  # deliveries searched for one count, if no index supports the filter
FEW = 2000  # overwritten tags that are all looked up; if there are more, deliveries are searched
# Not a move or a trial that a person requested, which is accepted with a sentence.
_IS_PUSH = """({0}.source NOT IN ('command', 'restore') OR {0}.verdict <> 'accepted'
  OR {0}.sentence = '')"""
# In the words of the index `registrations_overwritten`.
_OVERWRITTEN = text("registrations.overwritten")
_COUNT_OVERWRITTEN = """SELECT count(*) FROM
 (SELECT 1 FROM registrations WHERE overwritten LIMIT :most) found"""
ENDED_WELL = (Outcome.CREATED.value, Outcome.UPDATED.value, Outcome.UNCHANGED.value)


class Filter(msgspec.Struct, frozen=True):
    """Which deliveries to list. `before` is an id: the page after it, newest first.

    `after`: the page before this id; its deliveries come oldest first. `depth`: search at most this
    many deliveries, however few of them match.
    """

    repository: str | None = None
    tag: str | None = None
    digest: str | None = None
    verdict: Verdict | None = None
    state: State | None = None
    app: str | None = None
    version: str | None = None
    reason: Reason | None = None
    source: str | None = None
    overwritten: bool = False
    text: str | None = None
    since: int | None = None
    until: int | None = None
    before: str | None = None
    after: str | None = None
    depth: int | None = None
    limit: int = 100

    @property
    def has_index(self) -> bool:
        """Whether an index finds what is wanted, if few tags are overwritten."""
        if self.text is not None or self.source is not None:
            return False
        if self.digest is not None or (self.tag is not None and self.repository is None):
            return False
        if self.overwritten or self.state not in {None, State.DONE}:
            return True
        return self.state is None and not any((self.app, self.version, self.reason))


def search_deliveries(tx: Tx, wanted: Filter) -> DeliveryPage:
    """Return one page of deliveries; a search without an index ends after DEPTH deliveries."""
    search = _bounded(tx, replace(wanted, limit=wanted.limit + 1), DEPTH)
    found = list_deliveries(tx, search)
    if len(found) > wanted.limit:
        shown = found[: wanted.limit]
        return DeliveryPage(tuple(shown), shown[-1].id)
    return DeliveryPage(tuple(found), end_of_depth(tx, search))


def count_deliveries(tx: Tx, wanted: Filter) -> tuple[int, bool]:
    """Count what a search finds, and return whether there may be more.

    At most `limit` are counted, and without an index those among COUNTED deliveries.
    """
    search = _bounded(tx, replace(wanted, limit=wanted.limit + 1), COUNTED)
    ids = _chosen(search).with_only_columns(deliveries.c.id).subquery()
    found = int(tx.connection.execute(select(func.count()).select_from(ids)).scalar_one())
    if found > wanted.limit:
        return wanted.limit, True
    return found, end_of_depth(tx, search) is not None


def _bounded(tx: Tx, wanted: Filter, depth: int) -> Filter:
    """Limit a search that no index supports to this many deliveries."""
    indexed = wanted.has_index
    if wanted.overwritten and wanted.state in {None, State.DONE}:
        indexed = indexed and tx.run(_COUNT_OVERWRITTEN, most=FEW).scalar_one() < FEW
    return replace(wanted, depth=None if indexed else depth)


def list_deliveries(tx: Tx, wanted: Filter) -> list[Delivery]:
    """Return deliveries, newest first, each with its registrations in short."""
    return _deliveries(tx, _chosen(wanted))


def newest_of_image(
    tx: Tx, repository: str, tag: str, digest: str | None = None
) -> Delivery | None:
    """Return the newest push of an image, or of this digest among the tag's newest ones."""
    c = deliveries.c
    query = _chosen(Filter(repository=repository, tag=tag, digest=digest, limit=1))
    query = query.where(text(_IS_PUSH.format("deliveries")))
    if digest is not None:
        of_tag = select(c.id).where(c.repository == repository, c.tag == tag)
        newest = of_tag.order_by(c.id.desc()).limit(STRETCH).subquery()
        query = query.where(c.id >= select(func.min(newest.c.id)).scalar_subquery())
    return next(iter(_deliveries(tx, query)), None)


def _deliveries(tx: Tx, query: Select[Any]) -> list[Delivery]:
    rows = tx.connection.execute(query).mappings().all()
    led = registrations_of(tx, [row["id"] for row in rows])
    return [read_view(Delivery, row, registrations=led.get(row["id"], ())) for row in rows]


def end_of_depth(tx: Tx, wanted: Filter) -> str | None:
    """Return the id from which to continue a search limited by `depth`; None at the end."""
    if wanted.depth is None:
        return None
    query = _newest(wanted).offset(wanted.depth - 1).limit(2)
    found = [str(identity) for identity in tx.connection.execute(query).scalars()]
    return found[0] if len(found) > 1 else None


def _newest(wanted: Filter) -> Select[tuple[str]]:
    """Choose the ids of the page's time, newest first; without `since`, back to the oldest."""
    c = deliveries.c
    query = select(c.id).order_by(c.id.desc() if wanted.after is None else c.id)
    if wanted.after is not None:
        query = query.where(c.id > wanted.after)
    if wanted.before is not None:
        query = query.where(c.id < wanted.before)
    if wanted.since is not None:  # an id is never older than its delivery
        query = query.where(c.id >= first_id(DELIVERY, wanted.since))
        query = query.where(c.received_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(c.received_at < wanted.until)
    return query


def get_push(tx: Tx, delivery: str) -> ReportedPush:
    """Return a delivery that is in the ledger."""
    row = tx.run("SELECT * FROM deliveries WHERE id = :id", id=delivery).mappings().one()
    return read_view(ReportedPush, row)


def find_push(tx: Tx, identity: str) -> ReportedPush | None:
    """Return a delivery by its id, or a registration's newest delivery; None when there is none."""
    known = tx.run("SELECT 1 FROM deliveries WHERE id = :id", id=identity).first() is not None
    newest = [identity] if known else _deliveries_of(tx, identity)[-1:]
    return get_push(tx, newest[0]) if newest else None


def delivery_detail(tx: Tx, identity: str) -> DeliveryDetail | None:
    """Return all details of a delivery, or of a registration's newest delivery, by its id."""
    push = find_push(tx, identity)
    if push is None:
        return None
    led = registrations_of(tx, [push.id]).get(push.id, ())
    detailed = [
        read_view(
            RegistrationDetail,
            msgspec.structs.asdict(one),
            held_back=blockers(tx, one),
            deliveries=_deliveries_of(tx, one.id),
            requests=_views(tx, SentRequest, _REQUESTS_OF, id=one.id),
            trial=shown_run(tx, one.id) if one.mode is Mode.TRIAL else None,
            approval=approval_of_registration(tx, one.id),
        )
        for one in led
    ]
    received = tx.run(_RECEIVED, id=push.id).mappings().one()
    return read_view(
        DeliveryDetail, {**msgspec.structs.asdict(push), **received}, registrations=detailed
    )


def held_back_of(tx: Tx, registration: str) -> tuple[HeldBack, ...]:
    """Return what holds a registration back although it is due."""
    detail = delivery_detail(tx, registration)
    of_it = (one for one in detail.registrations if one.id == registration) if detail else ()
    return next((one.held_back for one in of_it), ())


def registrations_of(tx: Tx, identities: Sequence[str]) -> Mapping[str, Sequence[Registration]]:
    """Return the registrations that these deliveries led to, by delivery."""
    if not identities:
        return {}
    c = registrations.c
    query = (
        select(
            led_to.c.delivery_id,
            registrations,
            c.attempts.label("tries"),
            _later_deletion(deletions.c.ended_at).label("deleted_at"),
            _later_deletion(deletions.c.why).label("deleted_why"),
        )
        .join(registrations, c.id == led_to.c.registration_id)
        .where(led_to.c.delivery_id.in_(identities))
        .order_by(led_to.c.delivery_id, c.id)
    )
    led: dict[str, list[Registration]] = {}
    for row in tx.connection.execute(query).mappings():
        registration = read_view(Registration, row, notes=json.loads(row["notes"]))
        led.setdefault(row["delivery_id"], []).append(registration)
    return led


def _later_deletion(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """Choose this of the first deletion of a registration's version after it ended well."""
    d, r = deletions.c, registrations.c
    ended_well = and_(r.state == State.DONE.value, r.outcome.in_(ENDED_WELL))
    later = and_(d.app == r.app, d.version == r.version, d.ended_at >= r.finished_at)
    done = text("deletions.deleted")  # in the words of the index `deletions_of_target`
    query = select(column).where(done, later, ended_well).order_by(d.id).limit(1)
    return query.correlate(registrations).scalar_subquery()


def unfinished_registrations(tx: Tx) -> list[OpenRegistration]:
    """Return what is not done, oldest first, each with its newest delivery."""
    return _views(tx, OpenRegistration, _OPEN)


def deliveries_to_replay(
    tx: Tx, *, parked: bool, since: int | None, after: str, most: int
) -> list[str]:
    """Return the next deliveries whose registrations are parked, or that came since then."""
    c = deliveries.c
    query = select(c.id).where(c.id > after).order_by(c.id).limit(most)
    if since is not None:
        query = query.where(c.received_at >= since, c.verdict != Verdict.REFUSED.value)
    if parked:
        joined = led_to.join(registrations, registrations.c.id == led_to.c.registration_id)
        newest = (
            select(func.max(led_to.c.delivery_id))
            .select_from(joined)
            .where(registrations.c.state == State.PARKED.value)
            .group_by(registrations.c.id)
        )
        query = query.where(c.id.in_(newest))
    return [str(identity) for identity in tx.connection.execute(query).scalars()]


def _chosen(wanted: Filter) -> Select[Any]:
    c = deliveries.c
    query = _newest(wanted).with_only_columns(deliveries).limit(wanted.limit)
    for column, value in (
        (c.repository, wanted.repository),
        (c.tag, wanted.tag),
        (c.verdict, wanted.verdict),
        (c.source, wanted.source),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.verdict not in {None, Verdict.ACCEPTED}:  # the index by verdict holds none of those
        query = query.where(text("verdict <> 'accepted'"))
    if wanted.depth is not None:
        searched = _newest(wanted).limit(wanted.depth).subquery()
        oldest, newest = (
            select(end(searched.c.id)).scalar_subquery() for end in (func.min, func.max)
        )
        query = query.where(c.id >= oldest if wanted.after is None else c.id <= newest)
    if wanted.digest is not None:  # a webhook has none: preflight finds it out
        found = registrations.c.digest == wanted.digest
        query = query.where(or_(c.digest == wanted.digest, _led_to_one(found)))
    registered = _registered(wanted)
    if registered is not None:
        query = query.where(registered)
    if wanted.text is not None:
        r, words = registrations.c, wanted.text
        own = (c.repository, c.tag, c.pusher, c.reason, c.sentence)
        theirs = (r.rule, r.app, r.version, r.outcome, r.reason, r.sentence)
        said = or_(*(column.icontains(words, autoescape=True) for column in own))
        worked = or_(*(column.icontains(words, autoescape=True) for column in theirs))
        query = query.where(or_(said, _led_to_one(worked)))
    return query


def _registered(wanted: Filter) -> ColumnElement[bool] | None:
    """Choose the deliveries with one registration that has all that is wanted of it.

    Of the open ones, which are few, the index by state begins; others are read row by row.
    """
    r, joined = registrations.c, led_to.join(registrations)
    ours: list[ColumnElement[bool] | TextClause] = [
        column == value
        for column, value in ((r.app, wanted.app), (r.version, wanted.version))
        if value is not None
    ]
    if wanted.overwritten:
        ours.append(_OVERWRITTEN)
    own_reason: list[ColumnElement[bool]] = []
    if wanted.reason is not None:
        if not ours and wanted.state is None:  # the delivery's own reason: it led to nothing
            own_reason = [deliveries.c.reason == wanted.reason.value]
        ours.append(r.reason == wanted.reason.value)
    if wanted.state == State.DONE:
        ours.append(r.state.concat("") == State.DONE.value)  # not by the state's index
    elif wanted.state is not None:
        few = select(led_to.c.delivery_id).select_from(joined)
        return deliveries.c.id.in_(few.where(r.state == wanted.state.value, *ours))
    if wanted.overwritten and wanted.depth is None:
        those = led_to.c.registration_id.in_(select(r.id).where(*ours))
        return deliveries.c.id.in_(select(led_to.c.delivery_id).where(those))
    return or_(*own_reason, _led_to_one(and_(*ours))) if ours else None


def _led_to_one(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    joined = led_to.join(registrations, registrations.c.id == led_to.c.registration_id)
    here = and_(led_to.c.delivery_id == deliveries.c.id, condition)
    return exists(select(1).select_from(joined).where(here))


def _deliveries_of(tx: Tx, registration: str) -> list[str]:
    return [str(row.delivery_id) for row in tx.run(_DELIVERIES_OF, id=registration)]


PICTURED = 50
MAX_PARKED = 20

# Manual moves, trials and restored channels are recorded with a sentence, and pushes without one.
_NEWEST_OF_RULE = f"""SELECT d.id, d.received_at, d.repository, d.tag, r.id AS registration
 FROM (SELECT id, received_at, repository, tag, source, verdict, sentence FROM deliveries
        WHERE repository = :repository
        ORDER BY id DESC LIMIT :stretch) d
  JOIN led_to l ON l.delivery_id = d.id JOIN registrations r ON r.id = l.registration_id
 WHERE r.rule = :rule AND {_IS_PUSH.format("d")}
 ORDER BY d.id DESC LIMIT 1"""  # noqa: S608 - constant SQL
_LAST_OF_SOURCE = """SELECT received_at FROM (SELECT id, received_at, source FROM deliveries
  WHERE repository = :repository ORDER BY id DESC LIMIT :stretch) d WHERE source = :source
 ORDER BY id DESC LIMIT 1"""
_LAST = """SELECT id, app, version, tag, state, outcome, reason, created_at, finished_at
 FROM registrations ORDER BY id DESC LIMIT :most"""
_PARKED = """SELECT r.id, r.app, r.version, r.repository, r.tag, r.rule, r.reason, r.sentence,
  r.updated_at, (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id)
   AS delivery
 FROM registrations r WHERE r.state = :state ORDER BY r.id DESC LIMIT :most"""
_OPEN = """SELECT r.id, r.rule, r.app, r.version, r.repository, r.tag, r.mode, r.state, r.reason,
  max(l.delivery_id) AS delivery_id
 FROM registrations r JOIN led_to l ON l.registration_id = r.id
 WHERE r.state IN ('queued', 'waiting', 'working', 'parked')
  AND r.mode IN ('create', 'channel', 'trial')
 GROUP BY r.id, r.rule, r.app, r.version, r.repository, r.tag, r.mode, r.state, r.reason
 ORDER BY r.id"""
_COUNT = "SELECT count(*) FROM registrations WHERE state = :state"


def overview(tx: Tx, rules: Iterable[Rule]) -> LedgerOverview:
    """Return the state of everything by rule and by repository, and what is parked."""
    known = list(rules)
    cursors = {cursor.repository: cursor for cursor in read_cursors(tx)}
    pauses = paused(tx)
    parked = State.PARKED.value
    moved = {rule.name for rule in known if rule.on_overwrite is OnOverwrite.MOVE}
    return LedgerOverview(
        rules=tuple(_rule(tx, rule) for rule in known),
        repositories=tuple(
            _repository(tx, repository, cursors.get(repository), pauses.get(repository))
            for repository in sorted({rule.repository for rule in known})
        ),
        parked=tuple(_views(tx, ParkedRegistration, _PARKED, state=parked, most=MAX_PARKED)),
        parked_count=tx.run(_COUNT, state=parked).scalar_one(),
        waiting=waiting_moves(tx),
        last=tuple(_views(tx, RecentRegistration, _LAST, most=PICTURED)),
        newest_version=newest_version(tx),
        overwritten=count_overwritten(tx, moved),
        in_use=has_targets(tx),
        pauses=tuple(Pause(name, since) for name, since in pauses.items()),
        refused_links=tuple(refused_links(tx)),
    )


def _rule(tx: Tx, rule: Rule) -> RuleOverview:
    """Return a rule with its newest push, and the result of that push under this rule."""
    names = {"repository": rule.repository, "rule": rule.name}
    newest = tx.run(_NEWEST_OF_RULE, **names, stretch=STRETCH).first()
    push = None
    if newest is not None:
        led = registrations_of(tx, [newest.id]).get(newest.id, ())
        push = NewestPush(
            delivery=newest.id,
            received_at=Time(newest.received_at),
            tag=newest.tag,
            registrations=tuple(one for one in led if one.rule == rule.name),
        )
    return RuleOverview(
        rule=rule.name,
        repository=rule.repository,
        app=rule.app,
        versions=rule.versions,
        channels=tuple(rule.channels),
        newest=push,
    )


def _repository(
    tx: Tx, repository: str, cursor: Cursor | None, paused_at: Time | None
) -> RepositoryOverview:
    succeeded = None if cursor is None else cursor.succeeded_at
    used, tested = (
        tx.run(_LAST_OF_SOURCE, repository=repository, stretch=STRETCH, source=source).scalar()
        for source in ("webhook", "test")
    )
    return RepositoryOverview(
        repository=repository,
        last_use_at=None if used is None else Time(used),
        last_test_at=None if tested is None else Time(tested),
        paused_at=paused_at,
        caught_up_at=None if succeeded is None else Time(succeeded),
        catch_up_problem="" if cursor is None else cursor.problem,
    )


def _views(tx: Tx, kind: type[V], sql: str, **params: object) -> list[V]:
    return [read_view(kind, row) for row in tx.run(sql, **params).mappings()]
