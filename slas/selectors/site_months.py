"""One site within a report: its time cut into pieces by class, and the facts that prove each. Needs an open scope."""

from dataclasses import dataclass
from typing import Any

from fleet.kit.errors import NotFound
from sites.models import SiteTenure
from slas.engine import Piece
from slas.measuring import SiteFigures, measure, pieces_of
from slas.models import Report, ReportRevision
from slas.reporting.counted import Delay, Offered
from slas.reporting.paper import Place
from slas.selectors.contracts import version_as_of
from slas.selectors.evidence import facts_of
from slas.selectors.figures import GRANTED, told_of
from slas.selectors.reports import site_lines
from slas.terms import Objective


@dataclass(frozen=True, slots=True)
class Measured:
    """An objective at the site: its figures, every millisecond of it, and how much maintenance was over its cap."""

    provider: str
    objective: Objective
    figures: SiteFigures
    pieces: list[Piece]
    excess_ms: int


@dataclass(frozen=True, slots=True)
class SiteMonth:
    """The site's name and zone of then, its objectives, and the facts, as known when the revision was made.

    `counted` is what the revision says of its versions and round trips.
    """

    slug: str
    name: str
    zone: str
    measured: list[Measured]
    facts: list[dict[str, Any]]
    counted: list[Offered | Delay]


def site_month(report: Report, revision: ReportRevision, slug: str) -> SiteMonth:
    """A site within a revision, computed anew from facts as they were known then. Raises NotFound."""
    tenures = SiteTenure.objects.filter(slug=slug, valid_from__lt=report.ends)
    sites = sorted({row.site_id for row in tenures if row.valid_to is None or row.valid_to > report.begins})
    version = version_as_of(report.contract, revision.as_of)
    until = max(report.begins, min(report.ends, revision.as_of))
    measured, all_inputs = [], []
    for told in told_of(version, version.segments.all(), report.begins, until, revision.as_of, site_ids=sites):
        inputs = [one for one in told.inputs if one.slug == slug]
        all_inputs += inputs
        result = measure(told.segment.pk, told.terms, told.objective, inputs)
        rules = told.terms.rules(told.objective)
        for one, figures in zip(inputs, result.sites, strict=True):
            pieces = pieces_of(one, told.objective.measure, rules)
            excess = one.service(one.excess)
            measured.append(Measured(told.segment.provider.name, told.objective, figures, pieces, excess))
    counted = [one for one in site_lines(revision, slug) if not isinstance(one, Place)]
    names = [*(one.figures.name for one in measured), *(one.name for one in counted)]
    if not names:
        raise NotFound("The report says nothing of such a site, or it is not yours to see.")
    facts = facts_of(
        sites,
        report.begins,
        until,
        revision.as_of,
        granted=any(cause == GRANTED for one in all_inputs for cause, _ in one.reasons),
        maintenance=any(one.maintenance for one in all_inputs),
        blindness=any(one.blind for one in all_inputs),
    )
    zone = all_inputs[-1].zone if all_inputs else version.zone
    return SiteMonth(slug, names[0], zone, measured, list(facts), counted)
