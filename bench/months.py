"""Figures of SLAs from within the stack's environment: `python -m bench.months WHAT ANSWER [OPTIONS]`, as JSON.

`month`: the figures of all sites, of one, and of one whose journal comes late. `counting S`: those of few sites, from
changes of state and from an average over polls every S seconds.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup()

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: E402  (after django.setup)
from django.db import connections  # noqa: E402

from agent.protocol.identity import key_fingerprint  # noqa: E402
from agent.protocol.journal import open_page  # noqa: E402
from bench.backfill import PAGE_ENTRIES, Written, boot_of  # noqa: E402
from bench.cpu import tree_cpu_s  # noqa: E402
from fleet.kit.tenancy import Limit, Rights, job, scope  # noqa: E402
from sites.journal_states import Anchor  # noqa: E402
from sites.models import JoinToken, Provider, Site, SiteIdentity  # noqa: E402
from sites.services.backfill import record_page  # noqa: E402
from sites.services.joining import new_token  # noqa: E402
from slas.engine import Figures  # noqa: E402
from slas.models import CentreBlind, Contract  # noqa: E402
from slas.selectors.figures import Report, figures_of  # noqa: E402
from slas.services.contracts import create_contract  # noqa: E402
from slas.services.deriving import derive_due  # noqa: E402

BENCH = job("bench")
RIGHTS = Rights({"contract.change": (Limit(),)})
TIMES, TIMES_OF_ONE, LATE = 3, 20, 12
CYCLES = 10
CHANGES = 2 * CYCLES
END = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
BEGIN = END - timedelta(days=30)
# Of every three days two hours are down, or (once a month) eight are not known: a site changes twenty times a month.
_CYCLE, _LATE_CYCLE = timedelta(hours=72), 4
_DOWN_AT, _DOWN_FOR, _SILENT_FOR = timedelta(hours=36), timedelta(hours=2), timedelta(hours=8)

_GUARDED = ("edge_sites_stateinterval", "edge_sites_sitetenure", "slas_sitetraits")
_SINCE_LONG = """
DELETE FROM edge_sites_stateinterval;
UPDATE edge_sites_sitetenure SET valid_from = '2020-01-01';
UPDATE slas_sitetraits SET valid_from = '2020-01-01'
"""
_HISTORY = """
INSERT INTO edge_sites_stateinterval (site_id, provider_id, axis, state, valid_from, valid_to, recorded_at, closed_at,
    source, evidence)
SELECT s.id, s.provider_id, 'availability', c.state, c.at, c.until, c.at, c.until, 'poll', '{"poll": "bench"}'
FROM edge_sites_site s
CROSS JOIN LATERAL (
    SELECT state, at, lead(at) OVER (ORDER BY at) AS until FROM (
        SELECT 'up' AS state, %(begin)s::timestamptz - interval '9 days' AS at
        UNION ALL
        SELECT CASE WHEN n = %(late)s THEN 'unknown' ELSE 'down' END, %(begin)s + n * %(cycle)s + %(down_at)s
        FROM generate_series(0, %(cycles)s - 1) n
        UNION ALL
        SELECT 'up', %(begin)s + n * %(cycle)s + %(down_at)s + CASE WHEN n = %(late)s THEN %(silent)s ELSE %(down)s END
        FROM generate_series(0, %(cycles)s - 1) n
    ) c
) c
WHERE s.life = 'active'
"""
# A poll as a row of a table that holds nothing else, which is all that an average can make use of.
_POLLS = """
DROP TABLE IF EXISTS bench_poll;
CREATE UNLOGGED TABLE bench_poll AS
SELECT i.site_id, p.at, CASE i.state WHEN 'up' THEN 1 WHEN 'down' THEN 0 END::int2 AS is_up
FROM generate_series('{begin}'::timestamptz, '{end}'::timestamptz - interval '1 s', interval '{every} s') AS p(at)
JOIN edge_sites_stateinterval i ON i.axis = 'availability' AND i.superseded_at IS NULL
    AND i.valid_from <= p.at AND (i.valid_to IS NULL OR i.valid_to > p.at);
"""
# Measured, floor, ceiling and coverage, as a report has them.
_COUNT = """
SELECT site_id, avg(is_up), avg(COALESCE(is_up, 0)), avg(COALESCE(is_up, 1)), avg((is_up IS NOT NULL)::int)
FROM bench_poll WHERE at >= %s AND at < %s GROUP BY site_id
"""


def main(what: str, answer: Path, *options: str) -> None:
    """Do it, and write what was found."""
    parts: dict[str, Callable[..., Any]] = {"month": _month, "counting": _counting}
    answer.write_text(json.dumps(parts[what](*(int(one) for one in options))))


# History ----------------------------------------------------------------------------------------------------
def fill() -> int:
    """Each site has had its provider since long ago, and changed its state so often within the month. Returns outages.

    Those are derived, and judged, as ever.
    """
    values: dict[str, Any] = {
        "begin": BEGIN,
        "cycles": CYCLES,
        "cycle": _CYCLE,
        "late": _LATE_CYCLE,
        "down_at": _DOWN_AT,
    }
    values |= {"down": _DOWN_FOR, "silent": _SILENT_FOR}
    with connections["owner"].cursor() as cursor:
        for table in _GUARDED:  # of facts, against this very thing
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(_SINCE_LONG)
        for table in _GUARDED:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        cursor.execute(_HISTORY, values)
        while derive_due():
            pass
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("SELECT count(*) FROM slas_incidentspan")
        return int(cursor.fetchone()[0])


def contract_of(slug: str, **terms: Any) -> Contract:
    """Every provider's sites under these terms, since long ago."""
    with scope(BENCH):
        providers = Provider.objects.filter(sites__isnull=False).order_by("pk").distinct()
        slugs = [provider.slug for provider in providers]
    objective = {"measure": "availability", "target": "99.5", "scope": "each_site", "burden": "provider"}
    segments = [
        {
            "provider": one,
            "begins": "2020-01-01T00:00",
            "ends": None,
            "fee": "1200.00",
            "currency": "EUR",
            "objectives": [objective],
            **terms,
        }
        for one in slugs
    ]
    agreement = {"zone": "Europe/Berlin", "labels": {}, "regions": [], "segments": segments}
    made = create_contract(
        actor=BENCH, rights=RIGHTS, slug=slug, name=slug, agreement=agreement, reason="to be measured"
    )
    return made.contract


def _figures(contract: Contract, site_ids: list[int] | None = None) -> Report:
    with scope(BENCH):
        return figures_of(contract, BEGIN, END, datetime.now(UTC), site_ids=site_ids)


# A month ----------------------------------------------------------------------------------------------------
def _month() -> dict[str, Any]:
    outages = fill()
    weekly = {day: [["09:00", "17:00"]] for day in ("mon", "tue", "wed", "thu", "fri")}
    always = contract_of("always")
    hours = contract_of("hours", calendar={"timezone": "site", "weekly": weekly})
    found: dict[str, Any] = {"outages": outages, "changes": CHANGES}
    found["sla_month"] = _measured(always)
    found["sla_month_hours"] = _measured(hours)
    found["sites"] = sum(len(result.sites) for result in _figures(always).results)
    found["one_site_ms"], found["late"] = _of_one(always), _late_journals(always)
    found["sla_month_excluded"] = _measured(_excluding())
    return found


def _excluding() -> Contract:
    """Terms that exclude what most outages were, a maintenance window for every site, and two blind hours.

    Of one of those each site's journal speaks, among two days of its pages.
    """
    with scope(BENCH):
        for day in (3, 11):
            begin = BEGIN + timedelta(days=day)
            CentreBlind.objects.create(
                rule="beats", valid_from=begin, valid_to=begin + timedelta(hours=1), recorded_at=begin, closed_at=begin
            )
    with connections["owner"].cursor() as cursor:
        cursor.execute(_MAINTENANCE, {"begin": BEGIN + timedelta(days=8)})
        cursor.execute(_PAGES, {"begin": BEGIN + timedelta(days=2)})
        cursor.execute("UPDATE slas_finding SET cause = 'third_party', charged_to = 'third_party' WHERE id % 2 = 0")
        cursor.execute("ANALYZE slas_finding, slas_window, slas_windowsite, edge_sites_journalenvelope")
    upkeep = {"notice_h": "24", "cap_h": "8", "cap_per": "month"}
    return contract_of("excluding", maintenance=upkeep, excluded_causes=["third_party"])


_MAINTENANCE = """
INSERT INTO slas_window (provider_id, title, note, begins, ends, state, side, requested_by_id, requested_name,
    requested_at, decided_by_id, decided_name, decided_at, decided_reason, cancelled_by, cancelled_reason)
SELECT p.id, 'fans', '', %(begin)s, %(begin)s::timestamptz + interval '4 h', 'approved', 'provider', u.id, 'x',
    %(begin)s::timestamptz - interval '9 days', u.id, 'y', %(begin)s::timestamptz - interval '8 days', '', '', ''
FROM edge_sites_provider p CROSS JOIN (SELECT min(id) AS id FROM people_user) u;
INSERT INTO slas_windowsite (window_id, site_id, provider_id)
SELECT w.id, s.id, s.provider_id FROM slas_window w JOIN edge_sites_site s ON s.provider_id = w.provider_id
"""

# A page every two hours; whose keys signed it is not looked at here. Nothing is derived anew by it.
_PAGES = """
INSERT INTO edge_sites_journalenvelope (site_id, provider_id, identity_id, from_seq, to_seq, head, holes, body,
    received_at, spoke, spoke_until)
SELECT s.id, s.provider_id, k.id, 100000 + n * 120, 100119 + n * 120, 'bench', '[]', '', p.ends,
    jsonb_build_array(jsonb_build_array((date_part('epoch', p.ends) * 1000)::int8 - 7200000,
        (date_part('epoch', p.ends) * 1000)::int8)), p.ends
FROM edge_sites_site s CROSS JOIN (SELECT min(id) AS id FROM edge_sites_siteidentity) k
CROSS JOIN generate_series(1, 24) n CROSS JOIN LATERAL (SELECT %(begin)s + n * interval '2 h' AS ends) p
WHERE s.life = 'active';
DELETE FROM slas_dueincidents
"""


def _measured(contract: Contract) -> dict[str, float]:
    """The middle one of several times that all figures are computed."""
    postgres = int(os.environ["BENCH_POSTGRES"])
    _figures(contract)  # the first one may fill caches
    runs = []
    for _ in range(TIMES):
        before = time.perf_counter(), time.process_time(), tree_cpu_s([postgres])
        waited_s = _waited(lambda: _figures(contract))
        wall_s, own_s = time.perf_counter() - before[0], time.process_time() - before[1]
        run = {"wall_s": wall_s, "own_cpu_s": own_s, "postgres_cpu_s": tree_cpu_s([postgres]) - before[2]}
        runs.append(run | {"database_s": waited_s})
    return sorted(runs, key=lambda run: run["wall_s"])[TIMES // 2]


def _waited(work: Callable[[], Any]) -> float:
    """Seconds that the work waits for answers of the database."""
    total_s = 0.0

    def timed(execute: Any, *args: Any) -> Any:
        nonlocal total_s
        began_s = time.perf_counter()
        try:
            return execute(*args)
        finally:
            total_s += time.perf_counter() - began_s

    with connections["default"].execute_wrapper(timed):
        work()
    return total_s


def _of_one(contract: Contract) -> float:
    """Milliseconds of one site's month: the worst of several sites."""
    with scope(BENCH):
        ids = list(Site.objects.filter(life="active").order_by("pk").values_list("pk", flat=True)[: TIMES_OF_ONE + 1])
    times = [_ms(lambda pk=pk: _figures(contract, [pk])) for pk in ids]  # type: ignore[misc]
    return max(times[1:])  # the first one may fill caches


def _late_journals(contract: Contract) -> dict[str, Any]:
    """One site after the other: its journal of the time that nobody knew of comes, and its month is computed anew."""
    with scope(BENCH):
        sites = list(Site.objects.filter(life="active").order_by("-pk")[: LATE + 1])
    runs = [_late_journal(contract, site) for site in sites][1:]  # the first one may fill caches
    worst = max(runs, key=lambda run: run["derive_ms"] + run["figures_ms"])
    return {**worst, "entries": PAGE_ENTRIES, "times": LATE}


def _late_journal(contract: Contract, site: Site) -> dict[str, float]:
    key = Ed25519PrivateKey.generate()
    identity = _accepted(site, key)
    silent_at = BEGIN + _LATE_CYCLE * _CYCLE + _DOWN_AT
    journal = Written(site.uuid, key, pages=1, now=silent_at + _SILENT_FOR)
    (body,) = journal.pages
    public = key.public_key().public_bytes_raw()
    boot, mono_ms = boot_of(0, PAGE_ENTRIES - 1)
    anchor = Anchor(journal.now, boot, mono_ms, 0, 5, PAGE_ENTRIES)

    def store() -> None:
        page = open_page(body, site=site.uuid, signing_key=public, after=0, prev=None)
        assert record_page(page, body, site_id=site.pk, identity_id=identity.pk, anchor=anchor)

    before = _figures(contract, [site.pk])
    found = {"store_ms": _ms(store), "derive_ms": _ms(derive_due)}
    found["figures_ms"] = _ms(lambda: _figures(contract, [site.pk]))
    after = _figures(contract, [site.pk])
    assert _unknown_ms(after) < _unknown_ms(before), "the journal told nothing"
    return found


def _unknown_ms(report: Report) -> int:
    return sum(result.totals.unknown_ms for result in report.results)


def _accepted(site: Site, key: Ed25519PrivateKey) -> SiteIdentity:
    now, public = datetime.now(UTC), key.public_key().public_bytes_raw()
    with scope(BENCH):
        JoinToken.objects.filter(site=site, withdrawn_at=None).update(withdrawn_at=now)
        token = new_token(site, made_by="bench", pre_authorised=True, now=now)[0]
        token.save(force_insert=True)
        return SiteIdentity.objects.create(
            site=site,
            provider_id=site.provider_id,
            token=token,
            state="accepted",
            tls_key=b"t" * 91,
            signing_key=public,
            fingerprint=key_fingerprint(b"t" * 91, public),
            decided_at=now,
            decided_by="bench",
        )


def _ms(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


# Counting ---------------------------------------------------------------------------------------------------
def _counting(every_s: int) -> dict[str, Any]:
    """The same figures both ways, and the CPU of each."""
    if not Contract.objects.using("owner").filter(slug="always").exists():
        fill()
        contract_of("always")
    with scope(BENCH):
        contract = Contract.objects.get(slug="always")
    with connections["owner"].cursor() as cursor:
        cursor.execute(_POLLS.format(begin=BEGIN.isoformat(), end=END.isoformat(), every=every_s))
        cursor.execute("VACUUM (ANALYZE) bench_poll")
        cursor.execute("SELECT count(*), pg_table_size('bench_poll') / 1048576.0 FROM bench_poll")
        polls, size_mib = cursor.fetchone()
    report = _figures(contract)
    wanted = {row.site_id: row.shares for result in report.results for row in result.sites}
    _assert_same(wanted, _count())
    times = 100
    own, postgres = _cpu(lambda: _figures(contract), times)
    counting, counting_postgres = _cpu(_count, TIMES)
    return {
        "sites": len(wanted),
        "changes": CHANGES,
        "times": times,
        "polls": polls,
        "size_mib": float(size_mib),
        "own_cpu_s": own,
        "postgres_cpu_s": postgres,
        "counting_cpu_s": counting,
        "counting_postgres_cpu_s": counting_postgres,
    }


def _count() -> dict[int, tuple[Any, ...]]:
    with connections["owner"].cursor() as cursor:
        cursor.execute(_COUNT, [BEGIN, END])
        return {site: tuple(shares) for site, *shares in cursor.fetchall()}


def _assert_same(wanted: Mapping[int, Figures], counted: Mapping[int, tuple[Any, ...]]) -> None:
    """Every change is at a poll's very moment, so that averages are exact: the peer is spared its sampling error."""
    assert wanted.keys() == counted.keys()
    for site, shares in wanted.items():
        exact = (shares.measured, shares.floor, shares.ceiling, shares.coverage)
        for share, average in zip(exact, counted[site], strict=True):
            assert share is not None
            assert abs(share - Fraction(average)) < Fraction(1, 10**12), site


def _cpu(work: Callable[[], Any], times: int) -> tuple[float, float]:
    """Mean CPU seconds of this process, and of PostgreSQL with all its workers."""
    postgres = int(os.environ["BENCH_POSTGRES"])
    for _ in range(2):
        work()
    before = time.process_time(), tree_cpu_s([postgres])
    for _ in range(times):
        work()
    return (time.process_time() - before[0]) / times, (tree_cpu_s([postgres]) - before[1]) / times


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
