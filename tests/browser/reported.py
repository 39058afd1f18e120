"""A revision of a report that says something of every promise, kept by what keeps revisions."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from django.utils import timezone

from fleet.kit.tenancy import scope
from sites.models import Provider
from slas.models import Contract, Report, ReportRevision
from slas.reporting.counted import Cap, Delay, Latency, Offered, Synced
from slas.reporting.paper import Paper
from slas.services.report_making import keep_part
from tests.slas.factories import TEST
from tests.slas.test_exports import paper

H = 3_600_000
SITES = ("north-0", "north-1", "north-2", "north-3")
MONEY = (Decimal("60.00"), Decimal("1200.00"), Fraction(1), "EUR")


def everything_said(name: str) -> Paper:
    """Of provider `name`: three outcomes of versions, four sites' round trips, a cap that was passed."""
    found = paper(len(SITES))
    now = found.head.as_of
    outcomes = (("late", 30 * H, None), ("pending", H, None), ("on_time", 2 * H, now), ("on_time", 0, now))
    offered = tuple(
        Offered(
            name, slug, slug.title(), "2026.11-r2", now - timedelta(hours=60), now - timedelta(hours=60),
            now - timedelta(hours=40), proven, now, Decimal(24), False,
            ((now - timedelta(hours=50), now - timedelta(hours=45), "operator"),), outcome, 0, 20 * H, 10 * H, charged,
            60 * H, charged, rollout=1, step=2, document=3, receipt=4 if proven else None, event=5 if proven else None,
        )
        for slug, (outcome, charged, proven) in zip(SITES, outcomes, strict=True)
    )  # fmt: skip
    synced = Synced(
        name, "each_site", Fraction(9, 10), Decimal(24), False, 4, 2, 1, 1, Fraction(2, 3), "MISSED",
        (2 * H, 30 * H, None), (60 * H, None, None), 0, 80 * H, 40 * H, 33 * H, *MONEY,
    )  # fmt: skip
    delays = tuple(
        Delay(
            name, slug, slug.title(), rtt, (rtt - 9, rtt - 1, rtt, rtt + 20), 86_400, 30, 1, 700 * H, 720 * H, verdict
        )
        for slug, rtt, verdict in zip(SITES, (90, 40, 30, 20), ("MISSED", "MET", "MET", "MET"), strict=True)
    )
    latency = Latency(
        name, "pooled", 95, Decimal(50), 4, 44, (20, 39, 44, 91), 345_600, 120, 4, 2800 * H, 2880 * H, "MET"
    )
    cap = Cap(name, Decimal(8), "month", 8 * H, 2 * H, 1)
    return Paper(found.head, *[[]] * 5, (), (synced,), offered, (latency,), delays, (cap,))  # type: ignore[arg-type]


def keep_report(contract: str, provider: str) -> int:
    """Keep it as the only revision of a report; returns the report's id."""
    with scope(TEST):
        of, whose = Contract.objects.get(slug=contract), Provider.objects.get(slug=provider)
        now = timezone.now()
        begin = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0) - timedelta(days=400)
        report = Report.objects.create(
            contract=of, period="2025-Q1", begins=begin, ends=now, state="final", looked_at=now
        )
        made = ReportRevision.objects.create(
            report=report,
            number=1,
            state="final",
            as_of=now,
            made_at=now,
            made_by="job:test",
            version=1,
            tzdata="2025b",
        )
        keep_part(made, whose.pk, everything_said(whose.name), None)
        return report.pk
