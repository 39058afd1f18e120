"""Reports of SLAs from within the stack's environment: `python -m bench.documents WHAT ANSWER`, as JSON.

The report of all sites is made from facts. `files`: a provider's signed files from stored rows, by the stack's signer.
`page`: pages of single sites through all of Django, as one who is signed in asks for them.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup()

from django.db import connections  # noqa: E402  (after django.setup)
from django.test import Client  # noqa: E402

from bench.cpu import tree_cpu_s  # noqa: E402
from bench.months import BEGIN, BENCH, CHANGES, END, contract_of, fill  # noqa: E402
from bench.web import USER  # noqa: E402
from fleet.kit import signing  # noqa: E402
from fleet.kit.tenancy import Limit, Rights, scope  # noqa: E402
from fleet.people.models import User  # noqa: E402
from slas.models import Report, ReportFile, ReportLine, ReportPart  # noqa: E402
from slas.services.report_files import make_file, want_files  # noqa: E402
from slas.services.report_making import make_wanted  # noqa: E402
from slas.services.reports import MAKE, ask_for_report  # noqa: E402
from slas.states import FileKind  # noqa: E402

LEAST, TIMES, PAGES = 1_000, 3, 40
HOURS = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}


def main(what: str, answer: Path) -> None:
    """Do it, and write what was found."""
    outages = fill()
    report, making_s = _made()
    found: dict[str, Any] = {"outages": outages, "changes": CHANGES, "making_s": making_s}
    parts: dict[str, Callable[[Report], dict[str, Any]]] = {"files": _files, "page": _pages}
    answer.write_text(json.dumps(found | parts[what](report)))


def _made() -> tuple[Report, float]:
    """The report of the whole days of the month, under terms with service hours."""
    contract = contract_of("shops", calendar={"timezone": "site", "weekly": HOURS})
    period = f"{BEGIN + timedelta(days=1):%Y-%m-%d}..{END - timedelta(days=2):%Y-%m-%d}"
    report = ask_for_report(actor=BENCH, rights=Rights({MAKE: (Limit(),)}), contract=contract, period=period)
    began_s = time.perf_counter()
    assert make_wanted() == 1
    making_s = time.perf_counter() - began_s
    with scope(BENCH):
        report.refresh_from_db()
    assert not report.problem, report.problem
    return report, making_s


# Files ------------------------------------------------------------------------------------------------------
def _files(report: Report) -> dict[str, Any]:
    """The smallest part of LEAST sites or more, else the largest: both of its files, each time from the beginning."""
    with scope(BENCH):
        parts = list(ReportPart.objects.filter(revision__report=report))
        sites = {part.pk: len(_slugs(part)) for part in parts}
    enough = [part for part in parts if sites[part.pk] >= LEAST]
    part = min(enough or parts, key=lambda part: sites[part.pk] if enough else -sites[part.pk])
    keys = signing.report_keys()
    found: dict[str, Any] = {"sites": sites[part.pk], "lost": len(part.data["lost"]), "times": TIMES}
    for kind in FileKind:
        runs = [_file(part, kind, keys) for _ in range(TIMES)]
        found[kind] = sorted(runs, key=lambda run: run["wall_ms"])[TIMES // 2]
    return found


def _slugs(part: ReportPart) -> list[str]:
    return sorted(set(ReportLine.objects.filter(part=part, kind="places").values_list("slug", flat=True)))


def _file(part: ReportPart, kind: FileKind, keys: signing.ReportKeys) -> dict[str, float]:
    """One file from the beginning: what was made before is taken away."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("DELETE FROM slas_reportfile WHERE part_id = %s", [part.pk])
    want_files()
    with scope(BENCH):
        pk = ReportFile.objects.get(part=part, kind=kind).pk
    found = _timed(lambda: make_file(pk, keys))
    with scope(BENCH):
        row = ReportFile.objects.get(pk=pk)
    assert row.made_at, row.problem
    return {**found, "bytes": float(row.size_bytes or 0)}


# Pages ------------------------------------------------------------------------------------------------------
def _pages(report: Report) -> dict[str, Any]:
    """One site's page after the other, each of another site; the first few may fill caches."""
    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(User.objects.get(username=USER))
    with scope(BENCH):
        part = ReportPart.objects.filter(revision__report=report).order_by("pk").first()
        assert part is not None
        slugs = _slugs(part)[: PAGES + 5]
    for slug in slugs[:5]:
        _page(client, report, slug)
    postgres = int(os.environ["BENCH_POSTGRES"])
    before_s = tree_cpu_s([postgres])
    runs = [_timed(lambda slug=slug: _page(client, report, slug)) for slug in slugs[5:]]  # type: ignore[misc]
    return {
        **{name: statistics.median(run[name] for run in runs) for name in ("wall_ms", "cpu_ms")},
        "postgres_ms": (tree_cpu_s([postgres]) - before_s) * 1000 / len(runs),
        "worst_ms": max(run["wall_ms"] for run in runs),
        "times": len(runs),
    }


def _page(client: Client, report: Report, slug: str) -> None:
    response = client.get(f"/slas/reports/{report.pk}/sites/{slug}/")
    assert response.status_code == 200, response.status_code


# ------------------------------------------------------------------------------------------------------------
def _timed(work: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds by the clock, and of this process's CPU."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    work()
    return {"wall_ms": (time.perf_counter() - began_s) * 1000, "cpu_ms": (time.process_time() - cpu_s) * 1000}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
