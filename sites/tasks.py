"""Celery tasks: thin doors to services. Messages carry ids only; what they need they read again."""

import logging
import os
import socket
import time
from collections.abc import Sequence
from typing import Any

from celery import shared_task
from celery.signals import worker_shutdown
from django.utils import timezone

from fleet.kit import signing
from sites.agent_client import PollResult
from sites.beside import Beside
from sites.deliverer import Deliverer, Signing
from sites.hinting import Hinting
from sites.poller import Poller
from sites.puller import Puller
from sites.renewer import Renewer
from sites.selectors.polling import poll_targets
from sites.services.claims import claim
from sites.services.reports import record_reports
from sites.services.storage import keep_partitions as keep
from sites.services.storage import roll_up as roll
from sites.services.storage import roll_up_again

logger = logging.getLogger(__name__)
POLLER_NAME = f"{socket.gethostname()}.{os.environ.get('ARCHIPELAGO_POLLER', '0')}"
BEAT_EVERY_S = 20
_poller: Poller | None = None
_beside: list[Beside] = []
_identity: signing.ServiceIdentity | None = None
_ask_again_at = 0.0
_hinting: Hinting | None = None


def the_poller() -> Poller:
    """This process's poller, started at its first task (after any fork), with a valid certificate of ours.

    Raises SignerAway or SignerRefused: without one nobody is polled, rather than every site found unreachable.
    """
    global _poller, _hinting, _identity, _ask_again_at  # noqa: PLW0603  (one process, one loop, for its whole life)
    now = timezone.now()
    if _identity is None or (now >= _identity.issued.half_life and time.monotonic() >= _ask_again_at):
        _ask_again_at = time.monotonic() + 60
        try:
            _identity = signing.service_context("dashboard")
            if _poller is not None:
                _poller.use_certificate(_identity.context)
        except (signing.SignerAway, signing.SignerRefused):
            if _identity is None or now >= _identity.issued.not_after:
                raise
            logger.warning("our certificate is past its half-life, and the signer does not renew it")
    if _poller is None:
        _poller = Poller(_record, tls=_identity.context)
        _poller.start()
        reach = int(os.environ.get("ARCHIPELAGO_POLLER", "0")), *_poller.reach
        deliverer = Deliverer(*reach)
        _hinting = Hinting(*reach)
        _beside.extend((Puller(*reach), Renewer(*reach), Signing(*reach, then=deliverer.wake), deliverer, _hinting))
        for thread in _beside:
            thread.start()
    return _poller


@worker_shutdown.connect
def _stop_poller(**kwargs: Any) -> None:
    for thread in _beside:
        thread.stop()
    if _poller is not None:
        _poller.stop()


@shared_task(soft_time_limit=5)
def claim_due() -> None:
    """Once a second: queue the due sites of each shard for its poller."""
    beat = timezone.now().second % BEAT_EVERY_S == 0
    for batch in claim(beat=beat):
        poll_sites.apply_async(  # type: ignore[call-arg]  # celery-types does not know argsrepr
            (list(batch.site_ids),),
            argsrepr=f"{len(batch.site_ids)} sites",  # Celery would write out all of them, for logs
            queue=f"poll.{batch.poller}",
            expires=batch.expires_s,
        )


@shared_task
def poll_sites(site_ids: list[int]) -> None:
    """Poll these sites and write what answers in time; the poller's own writer writes the rest."""
    the_poller().poll_batch(poll_targets(site_ids))


def _record(results: Sequence[PollResult]) -> None:
    if record_reports(results, poller=POLLER_NAME) and _hinting is not None:
        _hinting.tell()


@shared_task(time_limit=300)
def roll_up() -> None:
    """Every minute: roll up the buckets that have closed, and anew those to which journals have added."""
    roll(timezone.now())
    roll_up_again()


@shared_task(time_limit=120)
def keep_partitions() -> None:
    """Every hour: make the next days' partitions, drop those past their retention."""
    counts = keep(timezone.now())
    logger.info("partitions kept", extra=counts)
