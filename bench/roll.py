"""Rollouts from within the stack's environment: `python -m bench.roll WHAT ANSWER [OPTIONS]`, its answer as JSON.

`plan`: drafts, previews and plans a rollout of all sites. `tick`: ticks over their running steps, of which some have
changed. `begin`: a rollout of all sites, approved. `press`: stops and resumes it, again and again.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fleet.settings")
django.setup()

from django.db import connections  # noqa: E402  (after django.setup)

from agent.fleet_file import SiteSpec  # noqa: E402
from agent.virtual_site import VirtualSite  # noqa: E402
from fleet.kit.clock import database_now  # noqa: E402
from fleet.kit.tenancy import Rights, Scope, job, scope  # noqa: E402
from fleet.people.selectors import access_of  # noqa: E402
from fleet.people.services import make_user  # noqa: E402
from fleet.rollouts.models import Rollout  # noqa: E402
from fleet.rollouts.selectors.drafting import draft, preview_of  # noqa: E402
from fleet.rollouts.services import control  # noqa: E402
from fleet.rollouts.services.planning import plan_rollout  # noqa: E402
from fleet.rollouts.services.ticking import tick  # noqa: E402
from fleet.stack.demo.company import HOST_SITE_UUID  # noqa: E402
from fleet.standards.contents import expected_components, read_value, sha256_of  # noqa: E402
from fleet.standards.models import Standard  # noqa: E402
from sites.agent_client import PollResult, PollTarget  # noqa: E402
from sites.models import Site  # noqa: E402
from sites.selectors.polling import poll_targets  # noqa: E402
from sites.services.reports import record_reports  # noqa: E402

BENCH = job("bench")
WORKLOAD = {"name": "pos", "image": "registry.example/pos@sha256:" + "6" * 64, "version": "9.9.9"}
LAX = [{"type": "success_share", "share": 0.9}, {"type": "failures", "share": 0.1}]
TICKS = 5
PRESSES = 10
BATCH = 1_000
RING = "bench"

# What sites would say of documents that they were handed.
_SIGN = """
UPDATE edge_sites_desireddocument SET envelope = 'x', sha256 = 'sha256:' || id, signed_at = now(), sent_at = now()
WHERE envelope IS NULL
"""
_SAY = """
UPDATE edge_sites_sitedesired t SET reported_epoch = t.epoch, reported_version = t.version, reported_state = %s,
    answer = 'accepted'
WHERE site_id IN (SELECT site_id FROM rollouts_sitestep WHERE rollout_id = %s AND state = ANY(%s) ORDER BY id LIMIT %s)
"""

_END_OTHERS = """
UPDATE rollouts_sitestep SET state = 'skipped', slot = false, due_at = NULL
WHERE rollout_id IN (SELECT id FROM rollouts_rollout WHERE name NOT LIKE 'bench%');
UPDATE rollouts_rollout SET state = 'aborted', is_live = false WHERE name NOT LIKE 'bench%'
"""


def main(what: str, answer: Path, *options: str) -> None:
    """Do it, and write what was found."""
    parts: dict[str, Callable[..., Any]] = {"plan": _plan, "tick": _tick, "begin": _begin, "press": _press}
    answer.write_text(json.dumps(parts[what](*(int(one) for one in options))))


# Reports ----------------------------------------------------------------------------------------------------
def _report_all() -> None:
    """Each site has been polled once, just now, and answered as simulated sites do."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("UPDATE edge_sites_pollschedule SET due_at = now(), next_poll_at = now() + interval '1 day'")
        cursor.execute("SELECT id FROM edge_sites_site WHERE life = 'active' ORDER BY id")
        ids = [pk for (pk,) in cursor.fetchall()]
    for begin in range(0, len(ids), BATCH):
        record_reports([_polled(target) for target in poll_targets(ids[begin : begin + BATCH])], poller="bench")
    with connections["owner"].cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")


def _polled(target: PollTarget) -> PollResult:
    site = VirtualSite(SiteSpec(target.uuid, target.peer.address, target.site_id), time.time)
    return PollResult(target, datetime.now(UTC), 5, site.make_now())


# Planning ---------------------------------------------------------------------------------------------------
def _people() -> tuple[tuple[Scope, Rights], list[tuple[Scope, Rights]]]:
    """Who plans, and who approves."""
    made = [
        access_of(make_user(actor=BENCH, username=f"bench-{role}", password="bench-only-password", role=role))
        for role in ("operator", "manager", "admin")
    ]
    return made[0], made[1:]


def _standard(name: str) -> Standard:
    content = read_value({"workloads": [WORKLOAD]}).content
    with scope(BENCH):
        return Standard.objects.create(
            name=name,
            content=content,
            sha256=sha256_of(content),
            components=expected_components(content),
            state="published",
            published_at=database_now(),
            published_by="bench",
            made_by="bench",
        )


def _recipe(standard: Standard, waves: int, in_flight: int) -> dict[str, Any]:
    """All simulated sites in waves of the same size, with no soak. The bench's own machine does not carry the ring."""
    with connections["owner"].cursor() as cursor:  # those of the demo would have some of the sites
        cursor.execute(_END_OTHERS)
    with scope(BENCH):
        sites = Site.objects.filter(life="active").exclude(uuid=HOST_SITE_UUID)
        sites.update(ring=RING)
        size = -(-sites.count() // waves)
    return {
        "name": standard.name,
        "standard": standard.name,
        "select": {"rings": [RING]},
        "waves": [{"name": f"wave {n}", "count": size, "gates": LAX} for n in range(waves)],
        "caps": {"in_flight": in_flight},
        "times": {"soak_s": 0},
    }


def _plan(waves: int) -> dict[str, float]:
    """Seconds of each part: from a recipe to a plan, its preview, and its rows."""
    _report_all()
    (actor, rights), _ = _people()
    recipe = _recipe(_standard("bench-plan"), waves, 500)
    found: dict[str, float] = {}
    for _ in range(3):  # the first one may fill caches; the last one counts
        began_s = time.perf_counter()
        with scope(actor):
            drafted = draft(actor, recipe, database_now())
            drafted_s = time.perf_counter()
            shown = preview_of(drafted, database_now())
        previewed_s = time.perf_counter()
        assert shown is not None, drafted.fault
        assert shown.may_start, shown.notes
        plan_rollout(actor=actor, rights=rights, values=drafted.values)
        found = {
            "draft_s": drafted_s - began_s,
            "preview_s": previewed_s - drafted_s,
            "plan_s": time.perf_counter() - previewed_s,
            "sites": len(drafted.sites),
        }
    return found


def _approved(name: str, waves: int, in_flight: int) -> Rollout:
    """Planned and approved: the next tick begins it."""
    (actor, rights), approvers = _people()
    recipe = _recipe(_standard(name), waves, in_flight)
    with scope(actor):
        drafted = draft(actor, recipe, database_now())
    made = plan_rollout(actor=actor, rights=rights, values=drafted.values)
    control.submit(actor=actor, rights=rights, rollout=made, expect=made.plan_hash)
    for who, may in approvers:
        control.approve(actor=who, rights=may, rollout=made, expect=made.plan_hash)
    return made


# Ticks ------------------------------------------------------------------------------------------------------
def _tick(*changed: int) -> dict[str, Any]:
    """Milliseconds of ticks over steps that all run, with so many sites that changed since; the middle of several."""
    _report_all()
    with connections["owner"].cursor() as cursor:
        cursor.execute(_SIGN)  # what the demo told its first shops: no signer is at rest here
    made = _approved("bench-tick", 1, 100_000)
    claims_s = _timed(lambda: _until_running(made.pk))
    with connections["owner"].cursor() as cursor:
        cursor.execute(_SIGN)
        cursor.execute(_SAY, ["applying", made.pk, ["claimed"], 100_000])
        _timed(tick)
        cursor.execute("ANALYZE rollouts_sitestep, rollouts_attempt, edge_sites_sitedesired")
        tick()
        found: dict[str, Any] = {"claims_s": claims_s, "changed": {}}
        for count in changed:
            times = []
            for _ in range(TICKS):
                cursor.execute(_SAY, ["failed" if count else "applying", made.pk, ["applying"], count])
                times.append(_timed(tick) * 1000)
            found["changed"][count] = sorted(times)[TICKS // 2]
        cursor.execute("SELECT state, count(*) FROM rollouts_sitestep WHERE rollout_id = %s GROUP BY 1", [made.pk])
        found["steps"] = dict(cursor.fetchall())
    return found


def _until_running(pk: int) -> None:
    while True:
        tick()
        with connections["owner"].cursor() as cursor:
            cursor.execute("SELECT count(*) FROM rollouts_sitestep WHERE rollout_id = %s AND state = 'queued'", [pk])
            if cursor.fetchone() == (0,):
                return


def _timed(work: Callable[[], Any]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


# A rollout that runs ----------------------------------------------------------------------------------------
def _begin(waves: int, in_flight: int) -> dict[str, Any]:
    made = _approved("bench-rollout", waves, in_flight)
    return {"id": made.pk, "sites": made.sites}


def _press(pk: int) -> dict[str, Any]:
    """Stop and resume it: seconds from each press of the button until the last claim is behind."""
    (actor, rights), _ = _people()
    with scope(actor):
        row = Rollout.objects.get(pk=pk)
    dice, found = random.Random(1), []
    for _ in range(PRESSES):
        time.sleep(dice.uniform(1.5, 3.0))
        pressed_at, began_s = _clock(), time.perf_counter()
        control.pause(actor=actor, rights=rights, rollout=row, expect=row.plan_hash, reason="bench")
        answered_s, answered_at = time.perf_counter() - began_s, _clock()
        time.sleep(2.5)
        with connections["owner"].cursor() as cursor:
            cursor.execute(
                "SELECT extract(epoch FROM max(given_at) - %s)::float8, count(*) FILTER (WHERE given_at > %s)"
                " FROM rollouts_attempt WHERE rollout_id = %s",
                [pressed_at, answered_at, pk],
            )
            last_s, after = cursor.fetchone()
        found.append({"answered_s": answered_s, "last_claim_s": max(0.0, last_s or 0.0), "claims_after": after})
        control.resume(actor=actor, rights=rights, rollout=row, expect=row.plan_hash)
    return {"presses": found}


def _clock() -> Any:
    with connections["owner"].cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
