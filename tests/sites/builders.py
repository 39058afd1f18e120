"""Reports and poll results as tests need them."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from agent.protocol import Component, Report, Resources, Verdict, Workload, components_digest
from sites.agent_client import PollResult
from sites.models import PollSchedule, Site
from sites.selectors.polling import poll_targets
from sites.states import Failure

KERNEL = Component("kernel", "linux", "6.1.0-21-amd64")
POS = Component("workload", "pos", "4.2.1", "sha256:" + "a" * 64)


def a_report(
    site: uuid.UUID,
    state: str = "up",
    *,
    components: Sequence[Component] = (KERNEL, POS),
    at: datetime | None = None,
    reasons: tuple[str, ...] = (),
    image_bytes: dict[str, int] | None = None,
    **resources: Any,
) -> Report:
    at = at or datetime.now(UTC)
    figures: dict[str, Any] = {
        "cpu_count": 8,
        "cpu_ratio": 0.25,
        "mem_bytes": 4 * 2**30,
        "mem_total_bytes": 16 * 2**30,
        "disk_bytes": 100 * 2**30,
        "disk_total_bytes": 400 * 2**30,
        "net_rx_bytes_total": 1000,
        "net_tx_bytes_total": 500,
        "temp_celsius": 41.5,
        **resources,
    }
    return Report(
        protocol=1,
        site=site,
        boot="boot-1",
        mono_ms=86_400_000,
        at=at,
        verdict=Verdict(state, at, reasons),
        resources=Resources(**figures),
        components_digest=components_digest(components),
        components=tuple(components),
        image_bytes=image_bytes,
        workloads=(Workload(name="pos", state="running", health="healthy", managed=True),),
    )


def due(*sites: Site) -> None:
    """As if the tick had claimed these sites just now."""
    PollSchedule.objects.using("owner").filter(site__in=sites).update(due_at=datetime.now(UTC))


def polled(site: Site, state: str | None = "up", *, at: datetime | None = None, **report: Any) -> PollResult:
    """What a poll of the site as it stands now would bring; `state` None: it failed."""
    due(site)
    (target,) = poll_targets([site.pk])
    at = at or datetime.now(UTC)
    if state is None:
        return PollResult(target, at, 3000, None, Failure.TIMEOUT, "no connection within 3 s")
    return PollResult(target, at, 12, a_report(site.uuid, state, **report))
