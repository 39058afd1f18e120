"""What the newest revisions of a period's reports say, by provider and by group. The scope must be open."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db.models import Q

from fleet.kit.tenancy import Scope
from sites.models import Provider, SiteTenure
from slas.models import Report, ReportPart, ReportRevision, SiteTraits
from slas.reporting.paper import Head, Paper, joined
from slas.selectors.reports import reports_in, whole


class Said(NamedTuple):
    """A provider's part of the newest revision of a report."""

    report: Report
    revision: ReportRevision
    provider: Provider
    paper: Paper


class Group(NamedTuple):
    """Which sites: every part that is set must fit; nothing set is all of them."""

    provider: str = ""
    region: str = ""
    labels: Mapping[str, str] = {}


def periods_in(who: Scope) -> list[str]:
    """The periods of which a report is made, the latest first."""
    found = reports_in(who).exclude(state="").order_by("-ends", "begins").values_list("period", flat=True)
    return list(dict.fromkeys(found))


def said_in(who: Scope, period: str, provider: Provider | None = None) -> list[Said]:
    """What is said of a period, by contract and provider; of one provider where it is named."""
    reports = {one.pk: one for one in reports_in(who).filter(period=period).exclude(state="")}
    newest: dict[int, ReportRevision] = {}
    for row in ReportRevision.objects.filter(report__in=reports).order_by("number"):
        newest[row.report_id] = row
    revisions = {row.pk: row for row in newest.values()}
    parts = ReportPart.objects.filter(revision__in=revisions).select_related("provider")
    if provider is not None:
        parts = parts.filter(provider=provider)
    found = []
    for part, paper in whole(parts):
        revision = revisions[part.revision_id]
        found.append(Said(reports[revision.report_id], revision, part.provider, paper))
    return sorted(found, key=lambda one: (one.report.contract.name, one.provider.name))


def paper_over(said: Sequence[Said], title: str, period: str, span: tuple[datetime, datetime]) -> Paper:
    """Several parts as one paper; where a provider has several contracts each row names its own."""
    several = len({one.report.pk for one in said}) > 1
    papers = [_named(one) if several else one.paper for one in said]
    if not papers:
        return Paper(Head(title, period, *span, "UTC", span[1], "", 0), [], [], [], [], [])
    heads = [one.paper.head for one in said]
    zones = {one.zone for one in heads}
    head = Head(
        title,
        period,
        min(one.begin for one in heads),
        max(one.end for one in heads),
        zones.pop() if len(zones) == 1 else "UTC",
        max(one.as_of for one in heads),
        ", ".join(f"{one.report.contract.name}: {one.paper.head.revision}" for one in said),
        0,
    )
    return replace(joined(papers), head=head)


def slugs_of(group: Group, begin: datetime, end: datetime) -> set[str]:
    """Short names, as they were within `[begin, end)`, of the sites that were in the group when the period ended."""
    traits = SiteTraits.objects.filter(Q(valid_to=None) | Q(valid_to__gte=end), valid_from__lt=end)
    if group.labels:
        traits = traits.filter(labels__contains=dict(group.labels))
    if group.region:
        traits = traits.filter(region=group.region)
    tenures = SiteTenure.objects.filter(
        Q(valid_to=None) | Q(valid_to__gt=begin), site__in=traits.values("site"), valid_from__lt=end
    )
    if group.provider:
        tenures = tenures.filter(provider__slug=group.provider)
    return set(tenures.values_list("slug", flat=True))


# ------------------------------------------------------------------------------------------------------------
_OF_A_PROVIDER: Final = ("promises", "places", "restored", "synced", "offered", "latencies", "delays", "caps")


def _named(one: Said) -> Paper:
    """The part with its contract beside the provider in each promise, since rows of several stand together."""
    name = f"{one.provider.name}, {one.report.contract.name}"
    renamed: dict[str, Any] = {
        kind: tuple(replace(row, provider=name) for row in getattr(one.paper, kind)) for kind in _OF_A_PROVIDER
    }
    return replace(one.paper, **renamed)
