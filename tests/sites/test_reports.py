"""record_reports(): what a batch leaves in the database."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.db import connections
from django.utils import timezone

from agent.protocol import Component
from fleet.kit.tenancy import scope
from sites.models import (
    Acknowledgement,
    ComponentSet,
    ComponentSpan,
    Outage,
    PollerBeat,
    PollSchedule,
    Site,
    SiteState,
    StateInterval,
)
from sites.services.reports import record_reports
from sites.services.sites import acknowledge, update_site
from sites.states import Failure
from tests.conftest import TEST, everything
from tests.sites.builders import KERNEL, a_report, polled

pytestmark = pytest.mark.usefixtures("database")


def record(*results: Any) -> None:
    record_reports(list(results), poller="test")


def rows(query: str, *values: Any) -> list[tuple[Any, ...]]:
    with connections["owner"].cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


def state(site: Site) -> SiteState:
    return SiteState.objects.using("owner").get(site=site)


def intervals(site: Site, axis: str) -> list[tuple[str, datetime, datetime | None]]:
    found = StateInterval.objects.using("owner").filter(site=site, axis=axis).order_by("id")
    return [(row.state, row.valid_from, row.valid_to) for row in found]


def test_good_report_leaves_a_sample_the_state_and_the_components(make_site: Any) -> None:
    site = make_site()
    result = polled(site, reasons=("all well",))
    record(result)
    assert rows("SELECT site_id, provider_id, at, rtt_ms, cpu_ratio, mem_bytes, temp_celsius FROM sample") == [
        (site.pk, site.provider_id, result.at, 12, 0.25, 4 * 2**30, 41.5)
    ]
    now = state(site)
    assert (now.availability, now.reachability, now.shown) == ("up", "reachable", "up")
    assert (now.cpu_ratio, now.mem_ratio, now.disk_ratio, now.rtt_ms) == (0.25, 0.25, 0.25, 12)
    assert (now.last_good_at, now.last_poll_at, now.version) == (result.at, result.at, 1)
    assert (now.reasons, now.workloads[0]["name"], now.boot) == (["all well"], "pos", "boot-1")
    digest = result.report.components_digest if result.report else ""
    assert now.component_set_id == digest
    assert ComponentSet.objects.using("owner").get().components[0] == ["kernel", "linux", "6.1.0-21-amd64", None]


def test_facts_name_their_source_and_the_poll_that_proves_them(make_site: Any) -> None:
    site = make_site()
    result = polled(site)
    record(result)
    row = StateInterval.objects.using("owner").get(site=site, axis="availability", state="up")
    assert (row.source, row.provider_id, row.valid_from) == ("poll", site.provider_id, result.at)
    assert row.evidence["poll"] == result.at.isoformat()
    assert (row.evidence["verdict"], row.evidence["boot"], row.evidence["mono_ms"]) == ("up", "boot-1", 86_400_000)
    first = StateInterval.objects.using("owner").get(site=site, axis="availability", state="unknown")
    assert (first.source, first.valid_to, first.evidence_end) == ("inference", result.at, row.evidence)
    assert first.closed_at is not None
    assert first.recorded_at <= first.closed_at


def test_unchanged_site_writes_a_sample_and_nothing_else(make_site: Any) -> None:
    site = make_site()
    record(polled(site))
    before = state(site)
    result = replace(polled(site, cpu_ratio=0.5, at=timezone.now() + timedelta(seconds=1)), keep_workloads=False)
    record(result)
    after = state(site)
    assert (after.cpu_ratio, after.last_good_at, after.version) == (0.5, result.at, before.version + 1)
    assert (after.shown_since, after.changed_at) == (before.shown_since, before.changed_at)
    assert rows("SELECT count(*) FROM sample") == [(2,)]
    assert StateInterval.objects.using("owner").filter(site=site).count() == 3
    assert ComponentSpan.objects.using("owner").count() == 1


def test_three_misses_write_unknown_and_unreachable_back_to_the_last_good_report(make_site: Any) -> None:
    site = make_site()
    good = polled(site)
    record(good)
    begin = intervals(site, "availability")[0][1]
    for number in range(3):
        record(polled(site, None, at=good.at + timedelta(seconds=30 * (number + 1))))
    assert intervals(site, "availability") == [
        ("unknown", begin, good.at),
        ("up", good.at, good.at),
        ("unknown", good.at, None),
    ]
    assert intervals(site, "reachability") == [("reachable", good.at, good.at), ("unreachable", good.at, None)]
    now = state(site)
    assert (now.misses, now.last_error, now.last_error_detail) == (3, "timeout", "no connection within 3 s")
    assert PollSchedule.objects.using("owner").get(site=site).backoff == 2
    assert Outage.objects.using("owner").count() == 0


def test_recovery_clears_the_error_and_the_back_off(make_site: Any) -> None:
    site = make_site()
    for _ in range(4):
        record(polled(site, None))
    assert PollSchedule.objects.using("owner").get(site=site).backoff == 4
    record(polled(site))
    now = state(site)
    assert (now.misses, now.last_error, now.last_error_detail, now.reachability) == (0, "", "", "reachable")
    assert PollSchedule.objects.using("owner").get(site=site).backoff == 1


def test_outage_lasts_from_down_to_the_first_up_or_degraded_across_silence(make_site: Any) -> None:
    site = make_site()
    record(polled(site))
    down = polled(site, "down")
    record(down)
    for _ in range(3):
        record(polled(site, None))
    record(polled(site, "down"))
    degraded = polled(site, "degraded")
    record(degraded)
    (outage,) = Outage.objects.using("owner").filter(site=site)
    assert (outage.valid_from, outage.valid_to, outage.provider_id) == (down.at, degraded.at, site.provider_id)


def test_new_components_close_one_span_and_open_another(make_site: Any) -> None:
    site = make_site()
    record(polled(site))
    changed = polled(site, components=[KERNEL, Component("workload", "pos", "4.3.0", "sha256:" + "b" * 64)])
    record(changed)
    spans = list(ComponentSpan.objects.using("owner").filter(site=site).order_by("id"))
    assert [span.valid_to for span in spans] == [changed.at, None]
    assert state(site).component_set_id == spans[1].component_set_id


def test_sites_with_one_set_of_components_share_one_row(make_site: Any) -> None:
    record(*[polled(make_site()) for _ in range(3)])
    assert (ComponentSet.objects.using("owner").count(), ComponentSpan.objects.using("owner").count()) == (1, 3)


def test_result_decided_against_an_older_row_changes_no_state(make_site: Any) -> None:
    """Two pollers polled one site: the slower one's result leaves its sample and nothing else."""
    site = make_site()
    late, fast = polled(site, "down"), polled(site, "up")
    record(fast)
    record(late)
    assert state(site).availability == "up"
    assert [name for name, _, _ in intervals(site, "availability")] == ["unknown", "up"]
    assert Outage.objects.using("owner").count() == 0


def test_poll_under_way_at_a_hand_over_does_not_write_into_the_new_tenure(make_site: Any, make_provider: Any) -> None:
    site = make_site()
    record(polled(site))
    under_way = polled(site, "down")
    update_site(actor=TEST, rights=everything(), site=site, values={"provider": make_provider("next")})
    record(under_way)
    assert state(site).availability == "up"
    assert Outage.objects.using("owner").count() == 0


def test_poison_row_is_found_by_halving_and_marked_while_the_others_are_stored(make_site: Any) -> None:
    sites = [make_site() for _ in range(5)]
    results = [polled(site) for site in sites]
    bad = results[3].report
    assert bad is not None
    # Past every bound of the protocol, as if one were wrong: it fits no column.
    poison = msgspec.structs.replace(bad, resources=msgspec.structs.replace(bad.resources, mem_bytes=2**70))
    results[3] = replace(results[3], report=poison)
    record(*results)
    assert rows("SELECT count(*) FROM sample") == [(4,)]
    assert [state(site).last_error for site in sites] == ["", "", "", "rejected", ""]
    assert "too big" in state(sites[3]).last_error_detail
    assert state(sites[3]).misses == 1


def test_beat_counts_polls_failures_and_the_greatest_lag(make_site: Any) -> None:
    record(polled(make_site()), polled(make_site(), None))
    record()
    (beat,) = PollerBeat.objects.using("owner").all()
    assert (beat.poller, beat.polls, beat.failures) == ("test", 2, 1)
    assert 0 <= beat.lag_max_ms < 60_000


def test_clock_that_is_years_off_is_stored_at_receipt_time_and_shown(make_site: Any) -> None:
    site = make_site()
    result = polled(site)
    far = a_report(site.uuid, at=datetime(2099, 1, 1, tzinfo=UTC))
    record(replace(result, report=far))
    assert rows("SELECT at FROM sample") == [(result.at,)]
    assert (state(site).clock_offset_ms or 0) > 70 * 365 * 86_400_000


def test_being_well_again_clears_the_acknowledgement(make_site: Any, access: Any) -> None:
    site = make_site()
    record(polled(site, "down"))
    who, rights = access("operator")
    with scope(who):
        acknowledge(actor=who, rights=rights, site=Site.objects.get(pk=site.pk), note="on my way")
    record(polled(site, "up"))
    assert Acknowledgement.objects.using("owner").get().cleared_at is None, "still shown as down"
    record(polled(site, "up"))
    assert Acknowledgement.objects.using("owner").get().cleared_at is not None


def test_failure_classes_reach_the_row(make_site: Any) -> None:
    site = make_site()
    record(replace(polled(site, None), failure=Failure.IDENTITY_MISMATCH, detail="the agent answers for site x"))
    assert (state(site).last_error, state(site).last_error_detail) == (
        "identity_mismatch",
        "the agent answers for site x",
    )


def test_a_site_that_has_not_joined_yet_was_never_out_of_reach(make_site: Any) -> None:
    site = make_site()
    for _ in range(4):
        result = polled(site, None)
        record(replace(result, failure=Failure.NOT_ENROLLED, detail="it has no accepted keys; let it join"))
    assert rows("SELECT axis, state FROM edge_sites_stateinterval") == [("availability", "unknown")]
    assert (state(site).misses, state(site).reachability, state(site).last_error) == (0, "", "not_enrolled")
    record(polled(site, "up"))
    for _ in range(3):  # revoked
        record(replace(polled(site, None), failure=Failure.NOT_ENROLLED))
    assert state(site).reachability == "unreachable"


# Coming back ------------------------------------------------------------------------------------------------
def test_who_fell_silent_together_is_polled_soon_when_one_answers_again(make_site):
    ours, same, long_ago, near = (make_site(name) for name in ("ours", "same", "long-ago", "near"))
    now = datetime.now(UTC)
    for site, silent_min, due_min in ((ours, 10, 2), (same, 10, 2), (long_ago, 600, 2), (near, 10, 0.1)):
        since, due_at = now - timedelta(minutes=silent_min), now + timedelta(minutes=due_min)
        SiteState.objects.using("owner").filter(site=site).update(
            reachability="unreachable", reachability_since=since, last_good_at=since, misses=6
        )
        PollSchedule.objects.using("owner").filter(site=site).update(next_poll_at=due_at, backoff=4, interval_s=30)
    record_reports([polled(ours, "up")], poller="test")
    due_s = {
        row.site.slug: (row.next_poll_at - now).total_seconds()
        for row in PollSchedule.objects.using("owner").select_related("site")
    }
    assert 0 <= due_s["same"] <= 31
    assert due_s["long-ago"] == 120  # it fell by itself
    assert due_s["near"] == 6
    assert PollSchedule.objects.using("owner").get(site=same).backoff == 4  # one more miss, and it waits again
