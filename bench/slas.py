"""SLAs: what a month's figures cost, what a late journal costs, and what counting every poll costs instead."""

import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from bench.result import Figure, machine
from bench.rollouts import AtRest
from bench.stack import Stack
from fleet.stack.process import Program
from fleet.stack.state import ROOT

SITES, SITES_QUICK = 10_000, 2_000
COUNTED, COUNTED_QUICK = 50, 10
MONTH_AIM_S, SITE_AIM_MS, LATE_AIM_MS, RATIO_AIM = 2.0, 40.0, 50.0, 100.0
PDF_AIM_S = 5.0
Say = Callable[[str], None]


def sla_month(say: Say, *, quick: bool) -> list[Figure]:
    """Figures of a month of all sites, of one, and after a late journal of one, from the database to rows."""
    with AtRest(say, quick=quick) as stack:
        found = _found(stack, "month")
    said = f"{found['sites']:,} sites, {found['changes']} changes of state each, {found['outages']:,} outages"
    return [
        *(_month(name, found[name], said) for name in ("sla_month", "sla_month_hours", "sla_month_excluded")),
        _one_site(found),
        _late(found),
    ]


def sla_counting(say: Say, *, quick: bool) -> list[Figure]:
    """CPU of the same figures from changes of state, and from averages over all polls: at two rates of polling."""
    sites = COUNTED_QUICK if quick else COUNTED
    figures = []
    with Stack() as stack:
        say(f"{sites} sites")
        stack.environ["SITES"] = str(sites)
        stack.manage("demo_seed")
        for every_s in (300, 30):
            say(f"a month of polls every {every_s} s")
            figures.append(_counted(_found(stack, "counting", every_s), every_s))
    return figures


def sla_pdf(say: Say, *, quick: bool) -> Figure:
    """A provider's signed PDF file, from stored rows to the stored file."""
    with AtRest(say, quick=quick) as stack:
        return _pdf(_found(stack, "files", module="documents"))


def sla_page(say: Say, *, quick: bool) -> Figure:
    """The page of one site's month through all of Django."""
    with AtRest(say, quick=quick) as stack:
        stack.manage("collectstatic --no-input --verbosity 0")
        return _page(_found(stack, "page", module="documents"))


# ------------------------------------------------------------------------------------------------------------
_TERMS = {
    "sla_month": "always within service hours",
    "sla_month_hours": "service hours of 09:00 to 17:00 on weekdays in each site's own zone",
    "sla_month_excluded": "outages of excluded causes, maintenance with a cap, and times in which the centre was blind",
}


def _month(name: str, found: Mapping[str, float], said: str) -> Figure:
    conditions = (
        f"{said}; {_TERMS[name]}; by the clock, in one process: {found['database_s']:.2f} s waited for PostgreSQL, "
        f"CPU {found['own_cpu_s']:.2f} s ours and {found['postgres_cpu_s']:.2f} s PostgreSQL; {machine()}"
    )
    value = found["wall_s"]
    return Figure(name, round(value, 2), "s", f"below {MONTH_AIM_S:g}", conditions, met=value < MONTH_AIM_S)


def _one_site(found: Mapping[str, Any]) -> Figure:
    one = found["one_site_ms"]
    said = f"a month of one site among {found['sites']:,}: its figures; {machine()}"
    return Figure("sla_site", round(one, 1), "ms", f"below {SITE_AIM_MS:g}", said, met=one < SITE_AIM_MS)


def _late(found: Mapping[str, Any]) -> Figure:
    late = found["late"]
    value = late["derive_ms"] + late["figures_ms"]
    said = (
        f"{late['entries']:,} entries of one site among {found['sites']:,}, about eight hours of which nothing was "
        f"known: outages and causes derived {late['derive_ms']:.0f} ms, its month {late['figures_ms']:.0f} ms, the "
        f"worst of {late['times']}; checked and stored before that {late['store_ms']:.0f} ms; {machine()}"
    )
    return Figure("sla_late_journal", round(value), "ms", f"below {LATE_AIM_MS:g}", said, met=value < LATE_AIM_MS)


def _pdf(found: Mapping[str, Any]) -> Figure:
    pdf, bundle = found["pdf"], found["bundle"]
    value = pdf["wall_ms"] / 1000
    said = (
        f"a provider's part of {found['sites']:,} sites and {found['lost']:,} outages, from stored rows to the stored, "
        f"signed file of {pdf['bytes'] / 1e6:.1f} MB; CPU {pdf['cpu_ms'] / 1000:.1f} s ours, the middle of "
        f"{found['times']}; its evidence bundle of {bundle['bytes'] / 1e6:.1f} MB {bundle['wall_ms'] / 1000:.1f} s; "
        f"the figures of all sites before that {found['making_s']:.1f} s; {machine()}"
    )
    return Figure("sla_pdf", round(value, 2), "s", f"below {PDF_AIM_S:g}", said, met=value < PDF_AIM_S)


def _page(page: Mapping[str, Any]) -> Figure:
    said = (
        f"one site's month of {page['changes']} changes of state as a page, from the request through all of Django to "
        f"the answer: the middle of {page['times']}, the worst {page['worst_ms']:.0f} ms; CPU {page['cpu_ms']:.1f} ms "
        f"ours and {page['postgres_ms']:.1f} ms PostgreSQL; {machine()}"
    )
    value = page["wall_ms"]
    return Figure("sla_page", round(value, 1), "ms", f"below {SITE_AIM_MS:g}", said, met=value < SITE_AIM_MS)


def _counted(found: Mapping[str, Any], every_s: int) -> Figure:
    own = found["own_cpu_s"] + found["postgres_cpu_s"]
    peer = found["counting_cpu_s"] + found["counting_postgres_cpu_s"]
    said = (
        f"CPU of the month of {found['sites']} sites, {found['changes']} changes each: "
        f"{found['postgres_cpu_s'] * 1000:.1f} ms PostgreSQL and {found['own_cpu_s'] * 1000:.1f} ms ours, the mean of "
        f"{found['times']}; the peer averages, in one statement, over {found['polls']:,} polls (one every {every_s} s, "
        f"read from memory, {found['size_mib']:.0f} MiB, nothing but site, time and state); both say the same to the "
        f"last digit; {machine()}"
    )
    is_full = every_s == 30 and found["sites"] >= COUNTED
    return Figure(
        f"sla_counting_{every_s}s",
        round(own * 1000, 1),
        "ms",
        f"a {RATIO_AIM:g}th of the peer's" if is_full else "",
        said,
        met=peer / own >= RATIO_AIM if is_full else None,
        peer="counting polls",
        peer_value=round(peer * 1000, 1),
        ratio=own / peer,
    )


def _found(stack: Stack, what: str, *options: int, module: str = "months") -> Any:
    """What a module of the bench finds in a process of its own."""
    answer = stack.state.base / f"{what}.json"
    stack.environ["BENCH_POSTGRES"] = str(stack.pids()["postgres"])
    argv = (sys.executable, "-m", f"bench.{module}", what, str(answer), *(str(one) for one in options))
    stack.run(Program(f"{module} {what}", argv, ROOT, stack.environ))
    return json.loads(answer.read_text())
