"""Standards, rings and reports as tests of compliance need them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec

from agent.protocol import Component, Workload
from fleet.kit.tenancy import job, scope
from fleet.standards.contents import architectures_of, expected_components, read_value, sha256_of
from fleet.standards.models import Ring, RingStandard, SiteCompliance, Standard
from fleet.standards.services.judging import judge_all, judge_due
from sites.models import Site
from sites.services.reports import record_reports
from tests.sites.builders import KERNEL, POS, polled

TEST = job("test")
IMAGE = "registry.example/pos@" + str(POS.digest)
OTHER_DIGEST = "sha256:" + "b" * 64
OTHER_IMAGE = "registry.example/pos@" + OTHER_DIGEST
CONTENT: Mapping[str, Any] = {
    "workloads": [{"name": "pos", "image": IMAGE, "version": "4.2.1"}],
    "os": {"kernel": "6.1.0-21-amd64"},
}

SHA256 = sha256_of(read_value(dict(CONTENT)).content)


def ready_for(operation: str) -> None:
    """The standard and the rings that the sweeps name, where this operation of the API may be done to them."""
    is_draft = operation in {"change_standard", "delete_standard", "publish_standard"}
    draft = {"state": "draft", "published_at": None, "published_by": ""} if is_draft else {}
    standard = make_standard(**draft)
    make_ring(standard if operation in {"give_standard", "ring_history"} else None, "stable", 1, none=True)
    make_ring(None, "canary", 2, labels={"never": "never"}, none=True)


def make_standard(name: str = "2026.11-r1", content: Mapping[str, Any] = CONTENT, **values: Any) -> Standard:
    """A published standard, as rows alone."""
    read = read_value(dict(content)).content
    published = {"state": "published", "published_at": datetime.now(UTC), "published_by": "test"}
    with scope(TEST):
        return Standard.objects.create(
            name=name,
            content=read,
            sha256=sha256_of(read),
            components=expected_components(read),
            by_architecture=bool(architectures_of(read)),
            made_by="test",
            **{**published, **values},
        )


def make_ring(standard: Standard | None = None, slug: str = "stable", position: int = 1, **values: Any) -> Ring:
    """A ring, which has this standard since now, or `since`; with `none` nothing that it has is kept as history."""
    is_new = values.pop("none", False) and standard is None
    since = values.pop("since", None)
    with scope(TEST):
        ring = Ring.objects.create(name=slug.title(), slug=slug, position=position, **values)
        if not is_new:
            give(ring, standard, since)
    return ring


def give(ring: Ring, standard: Standard | None, since: datetime | None = None) -> None:
    """What the ring has from now on."""
    now = since or datetime.now(UTC)
    with scope(TEST):
        RingStandard.objects.filter(ring=ring, until=None).update(until=now)
        RingStandard.objects.create(ring=ring, standard=standard, since=now, set_by="test", reason="test")


def workload(name: str = "pos", state: str = "running", managed: bool = True) -> Workload:
    return Workload(name=name, state=state, health="healthy", managed=managed)


def report(site: Site, *components: Component, workloads: tuple[Workload, ...] | None = None, **values: Any) -> None:
    """The site reports these components (its standard's, if none are given), and what runs."""
    result = polled(site, components=components or (KERNEL, POS), **values)
    if workloads is not None:
        assert result.report is not None
        result = replace(result, report=msgspec.structs.replace(result.report, workloads=workloads))
    record_reports([result], poller="test")


def silent(site: Site, polls: int = 3) -> None:
    """The site misses polls, until it counts as unreachable."""
    for _ in range(polls):
        record_reports([polled(site, None)], poller="test")


def judged(site: Site, *, due: bool = True) -> SiteCompliance:
    """How the site compares, after a pass over what is due (or all)."""
    judge_due() if due else judge_all()
    with scope(TEST):
        return SiteCompliance.objects.select_related("standard", "ring").get(site=site)
