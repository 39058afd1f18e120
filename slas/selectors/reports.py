"""Reports as a viewer may see them: a provider its own part of each. The scope must be open."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from django.db.models import F, Prefetch, Q, QuerySet

from fleet.kit.errors import NotFound
from fleet.kit.tenancy import Scope
from slas.models import Decision, Report, ReportLine, ReportPart, ReportRevision
from slas.reporting.counted import Latency, Synced
from slas.reporting.paper import Decided, Line, Paper, Promise, joined, load, load_line, with_lines
from slas.selectors.contracts import contracts_in

MOST_MONTHS = 12


@dataclass(frozen=True, slots=True)
class Told:
    """A revision with what it says to the viewer, and how that differs from the revision before. Its lists of sites
    are empty where only its summary was asked for."""

    revision: ReportRevision
    paper: Paper
    parts: Sequence[ReportPart]

    @property
    def causes(self) -> list[str]:
        """What brought it, in sentences; none for the first."""
        return list(dict.fromkeys(cause for part in self.parts for cause in (part.diff or {}).get("causes", ())))


def reports_in(who: Scope) -> QuerySet[Report]:
    """Every report that the viewer may see, the latest period first."""
    newest = Prefetch("revisions", ReportRevision.objects.order_by("-number"), to_attr="all_revisions")
    found = Report.objects.filter(contract__in=contracts_in(who).values("pk")).select_related("contract")
    return found.prefetch_related(newest).order_by("-ends", "contract__name", "-id")


def get_report(*, scope: Scope, pk: int) -> Report:
    """One report. Raises NotFound, also for one that the viewer may not see."""
    found = reports_in(scope).filter(pk=pk).first()
    if found is None:
        raise NotFound("There is no such report, or it is not yours to see.")
    return found


def revisions_of(report: Report) -> QuerySet[ReportRevision]:
    """The revisions in which anything is the viewer's, newest first."""
    own = ReportPart.objects.filter(revision__report=report)
    return ReportRevision.objects.filter(report=report, pk__in=own.values("revision")).order_by("-number")


def revision_of(report: Report, number: int | None = None, *, lines: bool = True) -> Told | None:
    """A revision of a report as the viewer sees it, the newest where none is named; None where there is none yet.

    Without `lines` its lists of sites are left empty. Raises NotFound for a number that there is not, or that is not
    the viewer's.
    """
    found = revisions_of(report)
    revision = (found if number is None else found.filter(number=min(number, 2**31 - 1))).order_by("-number").first()
    if revision is None:
        if number is None:
            return None
        raise NotFound("There is no such revision.")
    parts = list(ReportPart.objects.filter(revision=revision).select_related("provider").order_by("provider__name"))
    papers = [paper for _, paper in whole(parts)] if lines else [load(part.data) for part in parts]
    return Told(revision, joined(papers), parts)


def whole(parts: Iterable[ReportPart]) -> list[tuple[ReportPart, Paper]]:
    """What each part says, with its lists of sites."""
    listed = list(parts)
    found: dict[int, dict[str, list[Line]]] = {part.pk: defaultdict(list) for part in listed}
    rows = ReportLine.objects.filter(part__in=listed).order_by("part", "kind", "number")
    for part, kind, data in rows.values_list("part", "kind", "data").iterator(5_000):
        found[part][kind].append(load_line(kind, data))
    return [(part, with_lines(load(part.data), found[part.pk])) for part in listed]


def lines_of(
    revision: ReportRevision, *, measure: str = "", verdict: str = "", search: str = ""
) -> QuerySet[ReportLine]:
    """What a revision says site by site as the viewer sees it, the worst first; of some of it where that is named."""
    found = ReportLine.objects.filter(part__revision=revision)
    if measure:
        found = found.filter(measure=measure)
    if verdict:
        found = found.filter(verdict=verdict)
    if search:
        found = found.filter(Q(slug__icontains=search) | Q(name__icontains=search))
    return found.order_by(F("rank").asc(nulls_last=True), "slug", "number", "pk")


def site_lines(revision: ReportRevision, slug: str) -> list[Line]:
    """What a revision says of one site, as the viewer sees it."""
    rows = ReportLine.objects.filter(part__revision=revision, slug=slug).order_by("part", "kind", "number")
    return [load_line(row.kind, row.data) for row in rows]


def decisions_of(report: Report, as_of: datetime) -> list[Decided]:
    """What managers decided until a moment, the newest last."""
    rows: Any = Decision.objects.filter(report=report, at__lte=as_of).select_related("provider").order_by("id")
    return [
        Decided(row.provider.name, row.measure, Fraction(row.figure) / 100, row.made_by, row.at, row.reason)
        for row in rows
    ]


def trend_of(report: Report) -> list[tuple[str, list[Promise | Synced | Latency]]]:
    """The newest months until this report's end, the oldest first, each with what its newest revision says."""
    months = Report.objects.filter(contract=report.contract_id, period__regex=r"^\d{4}-\d{2}$", ends__lte=report.ends)
    listed = list(months.exclude(state="").order_by("-ends")[:MOST_MONTHS])
    newest: dict[int, int] = {}
    for row in ReportRevision.objects.filter(report__in=listed).order_by("number"):
        newest[row.report_id] = row.pk
    parts: dict[int, list[Promise | Synced | Latency]] = {}
    for part in ReportPart.objects.filter(revision__in=newest.values()).order_by("provider__name"):
        paper = load({**part.data, "lost": []})
        parts.setdefault(part.revision_id, []).extend([*paper.promises, *paper.synced, *paper.latencies])
    return [(row.period, parts.get(newest.get(row.pk, 0), [])) for row in reversed(listed)]
