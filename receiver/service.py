"""Builds, runs, reloads and stops the parts of one receiver."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import msgspec
from httpx import AsyncClient

from receiver import metrics
from receiver.config.load import reload_settings
from receiver.config.settings import LiveSettings, Settings, suspicious_settings
from receiver.edgegap.client import EdgegapClient, RateLimiter, edgegap_client
from receiver.errors import ConfigError, LedgerError, RestartFirst
from receiver.http.client import http_client
from receiver.ledger.claims import Claimed
from receiver.ledger.gates import probe_now
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result
from receiver.logs import get_logger, log_operation, masking, requester
from receiver.periodic import log_errors
from receiver.pipeline.preflight import Preflight, preflight_over
from receiver.pipeline.worker import Settled, Worker
from receiver.rules.rule import Rule
from receiver.secret import Secret
from receiver.signing import ApiTokenSigner, ApprovalSigner, LinkSigner
from receiver.timestamps import Time
from receiver.upkeep import links
from receiver.upkeep.catch_up import CatchUp
from receiver.upkeep.clock import ClockCheck, ClockWatch
from receiver.upkeep.drift import Drift
from receiver.upkeep.health import Code, Condition, HealthCheck, take_snapshot
from receiver.upkeep.links import LinkUses, RefusedLinks
from receiver.upkeep.notify import NotificationSender
from receiver.upkeep.operations import Manual
from receiver.upkeep.promotion import MoveReader
from receiver.upkeep.purge import Purge
from receiver.upkeep.replay import read_rules_again
from receiver.upkeep.trials import TrialSweep
from receiver.upkeep.waiting import Waiting

WORKER_GRACE_SECONDS = 5.0

log = get_logger()


class Reload(msgspec.Struct, frozen=True):
    """The result of a reload: faults, or the names of what is in force only after a restart.

    `restart_first`: the faults are only those of the mixture until a restart.
    """

    faults: Sequence[str] = ()
    restart_first: bool = False
    needs_a_restart: Sequence[str] = ()


class Service:
    """The parts that the HTTP endpoints use: active settings, keys, ledger, worker."""

    def __init__(
        self,
        current: LiveSettings,
        ledger: Ledger,
        client: EdgegapClient,
        preflight: Preflight,
        settled: Settled | None = None,
    ) -> None:
        self.started_at = Time(time.time_ns() // 1_000_000)
        self.current = current
        self.ledger = ledger
        self.preflight = preflight
        self.client = client
        self.waiting = Waiting(ledger)
        self._and_then = settled
        self.worker = Worker(ledger, current, client, preflight, settled=self._settled)
        wake = self.worker.wake
        self.moves = MoveReader(ledger, current, client)
        self.drift = Drift(ledger, current, client, wake)
        self.catch_up = CatchUp(ledger, current, preflight.hub, wake, compare=self.drift.compare)
        self.purge = Purge(ledger, current)
        self.trials = TrialSweep(ledger, current, client)
        self.notification_sender = NotificationSender(ledger, current)
        self.manual = Manual(ledger, current, self.worker.wake, self.worker.invalidate_caches)
        self.health = HealthCheck(ledger, current, self.worker, preflight)
        self.refused_links = RefusedLinks(ledger)
        self.link_uses = LinkUses(ledger)
        self._set_keys()

    @property
    def settings(self) -> Settings:
        """The active settings."""
        return self.current.settings

    def _settled(self, claimed: Claimed, result: Result) -> None:
        self.waiting.wake(claimed.image)
        if self._and_then is not None:
            self._and_then(claimed, result)

    async def reload(self, environ: Mapping[str, str], source: str = "signal") -> Reload:
        """Reload the whole configuration; if it has errors, log them and keep the old one.

        Changed settings that the log lists under `needs_a_restart` are not active yet.
        """
        try:
            settings, later, secrets = reload_settings(self.settings, environ)
        except ConfigError as error:
            faults = [str(fault) for fault in error.faults]
            kept = "the configuration before"
            log.error(
                "config_refused", faults=faults, kept=kept, source=source, **requester(source)
            )
            now = Time(time.time_ns() // 1_000_000)
            self.health.note(Condition(Code.CONFIGURATION, _refusal_of(error), now))
            metrics.config_reloaded.set(0)
            masked = tuple(masking(fault) for fault in faults)
            return Reload(masked, restart_first=isinstance(error, RestartFirst))
        self.health.clear(Code.CONFIGURATION)
        before = self.settings.rules
        masking.know(secrets)
        self.current.settings = settings
        metrics.config_in_force()
        self._set_keys()
        token = settings.edgegap_token or Secret("")
        pace = settings.requests_per_second, settings.concurrency
        self.client.reconfigure(settings.edgegap_base_url, token, pace, settings.secrets())
        rules = len(settings.rules)
        log_operation("config_reloaded", source=source, rules=rules, needs_a_restart=list(later))
        log_warnings(settings)
        try:
            await self.read_rules_again(before)
            await self.adopt_keys()
            await self.ledger.write(probe_now)  # the token may be a new one
            await self.catch_up.begin()
        except LedgerError as error:
            log.error("ledger_unavailable", error=str(error))
        self.worker.invalidate_caches()
        return Reload(needs_a_restart=later)

    async def read_rules_again(self, before: Sequence[Rule] = ()) -> None:
        """Queue again the registrations that the current configuration may have fixed.

        `before` are the rules that it replaces in this process.
        """
        rules = self.settings.rules
        deliveries = await self.ledger.write(lambda tx: read_rules_again(tx, rules, before=before))
        if deliveries:
            log.info("rules_read_again", deliveries=deliveries)

    async def adopt_keys(self) -> None:
        """Store which secret keys are in use; warn if existing links were made with other keys."""
        settings = self.settings
        repositories = {rule.repository for rule in settings.rules}
        prints = await links.record_keys_in_use(self.ledger, settings.secret_keys, repositories)
        if settings is self.settings:
            self.link_uses.keys = prints

    def _set_keys(self) -> None:
        keys = [key.reveal() for key in self.settings.secret_keys]
        repositories = {rule.repository for rule in self.settings.rules}
        self.links = LinkSigner(keys, self.settings.links, repositories)
        self.link_uses.keys = ()
        self.api_keys = ApiTokenSigner(keys)
        self.approvals = ApprovalSigner(keys)


def log_warnings(settings: Settings) -> None:
    """Log probable mistakes, in case `receiver check` was not run after a change."""
    for warning in suspicious_settings(settings):
        log.warning("config_warning", sentence=warning)


def _refusal_of(error: ConfigError) -> str:
    faults = error.faults
    valid = isinstance(error, RestartFirst)
    check = "" if valid else " `receiver check` lists the faults of the files."
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return masking(
        f"Reload failed; the previous configuration stays active. {faults[0]}{more}.{check}"
    )


@asynccontextmanager
async def without_worker(settings: Settings, ledger: Ledger) -> AsyncIterator[Service]:
    """Build the service on an opened ledger, without its worker and its periodic tasks."""
    async with connected(settings) as (client, http):
        yield Service(LiveSettings(settings), ledger, client, preflight_over(http, settings))


@asynccontextmanager
async def connected(
    settings: Settings, kind: type[EdgegapClient] = EdgegapClient
) -> AsyncIterator[tuple[EdgegapClient, AsyncClient]]:
    """Yield the client for Edgegap, and the one for everything else."""
    token, secrets = settings.edgegap_token or Secret(""), settings.secrets()
    pace = RateLimiter(settings.requests_per_second, settings.concurrency)
    edgegap = edgegap_client(settings.edgegap_base_url, token, pace, secrets, kind=kind)
    async with edgegap as client, http_client() as http:
        yield client, http


@asynccontextmanager
async def running(
    settings: Settings,
    ledger: Ledger,
    *,
    settled: Settled | None = None,
    catching_up: bool = True,
) -> AsyncIterator[Service]:
    """Run the service on an opened ledger; at the end, stop it within the grace period.

    `settled` is called with each finished registration and its result, once that is on disk.
    `catching_up`: run the periodic tasks; a command that processes a single push does not.
    """
    async with connected(settings) as (client, http):
        current, watch = LiveSettings(settings), ClockWatch()
        preflight = preflight_over(http, settings, answered=watch.compare)
        service = Service(current, ledger, client, preflight, settled)
        parts = (ClockCheck(http, current, watch), service.drift, service.purge, service.trials)
        tasks = [part.background for part in (*parts, service.notification_sender)]
        # Read once what the health checks use: if the ledger is damaged there, the start fails.
        await ledger.read(lambda tx: take_snapshot(tx, settings))
        await service.adopt_keys()
        await service.read_rules_again()
        metrics.config_in_force()
        try:
            service.refused_links.background.start()
            service.link_uses.background.start()
            await service.worker.start()
            if catching_up:
                await service.catch_up.start()
                for task in tasks:
                    task.start()
            yield service
        finally:
            await service.catch_up.stop()
            for task in tasks:
                await task.stop()
            await service.refused_links.stop()
            await service.link_uses.stop()
            await service.worker.stop(WORKER_GRACE_SECONDS)
            if not catching_up:
                with log_errors("trial_sweep_fault"):
                    await service.trials.end()
