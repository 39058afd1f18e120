"""Changes of sites: what they leave behind, and in whose tenure."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Rights, scope
from sites.models import (
    Acknowledgement,
    ComponentSpan,
    Outage,
    PollSchedule,
    Site,
    SiteState,
    SiteTenure,
    StateInterval,
)
from sites.services.providers import save_provider
from sites.services.reports import record_reports
from sites.services.sites import acknowledge, change_life, create_site, create_sites, poll_now, update_site
from sites.states import Life
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.flows.system import wait_for
from tests.sites.builders import polled

pytestmark = pytest.mark.usefixtures("database")
VALUES = {"slug": "a", "name": "A", "lat": 1.0, "lon": 2.0, "address": "h:1"}


def owned(model: Any) -> Any:
    return model.objects.using("owner")


def test_new_active_site_has_tenure_schedule_state_and_a_first_interval(make_provider: Any) -> None:
    provider = make_provider()
    site = create_site(actor=TEST, rights=everything(), values={**VALUES, "provider_id": provider.pk}, life="active")
    tenure = owned(SiteTenure).get(site=site)
    assert (tenure.provider_id, tenure.valid_to, tenure.name, tenure.slug) == (provider.pk, None, "A", "a")
    assert owned(PollSchedule).get(site=site).shard == site.pk % 64
    assert owned(SiteState).get(site=site).shown == "unknown"
    row = owned(StateInterval).get(site=site)
    assert (row.axis, row.state, row.valid_from, row.source) == (
        "availability",
        "unknown",
        tenure.valid_from,
        "inference",
    )
    entry = owned(AuditEntry).get(action="site.create")
    assert (entry.object_id, entry.provider_id, entry.actor, entry.after["slug"]) == (
        str(site.pk),
        provider.pk,
        "job:test",
        "a",
    )


def test_planned_site_is_neither_polled_nor_judged(make_site: Any) -> None:
    site = make_site(life="planned")
    assert not owned(PollSchedule).exists()
    assert not owned(SiteState).filter(site=site).exists()
    assert not owned(StateInterval).exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"slug": "Not A Slug"}, "slug"),
        ({"slug": "import"}, "slug"),
        ({"name": "bad\x00name"}, "name"),
        ({"lat": 90.1}, "lat"),
        ({"lon": -180.5}, "lon"),
        ({"lat": float("nan")}, "lat"),
        ({"time_zone": "Mars/Base"}, "time_zone"),
        ({"address": "nowhere"}, "address"),
        ({"poll_interval_s": 0}, "poll_interval_s"),
        ({"labels": {"bad key!": "x"}}, "labels"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_values_are_named_and_nothing_is_made(make_provider: Any, change: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        create_site(actor=TEST, rights=everything(), values={**VALUES, "provider_id": make_provider().pk, **change})
    assert list(caught.value.details) == [field]
    assert not owned(Site).exists()
    assert not owned(AuditEntry).filter(action="site.create").exists()


def test_taken_slug_is_refused_by_the_database(make_site: Any) -> None:
    site = make_site("taken")
    with pytest.raises(Invalid) as caught:
        create_site(
            actor=TEST, rights=everything(), values={**VALUES, "slug": "taken", "provider_id": site.provider_id}
        )
    assert caught.value.details == {"slug": "This slug is taken."}


def test_of_many_sites_all_are_made_or_none(make_provider: Any) -> None:
    provider = make_provider()
    rows = [{**VALUES, "slug": slug, "provider_id": provider.pk} for slug in ("one", "two", "one")]
    with pytest.raises(Invalid):
        create_sites(actor=TEST, rights=everything(), rows=rows)
    assert not owned(Site).exists()


def test_rights_are_asked_of_the_site_as_it_is_and_as_it_would_be(make_site: Any, access: Any) -> None:
    inside, outside = make_site(region="DACH"), make_site(region="Iberia")
    who, rights = access("operator", regions=["DACH"])
    update_site(actor=who, rights=rights, site=inside, values={"notes": "mine"})
    with pytest.raises(NotAllowed):
        update_site(actor=who, rights=rights, site=outside, values={"notes": "not mine"})
    with pytest.raises(NotAllowed):
        update_site(actor=who, rights=rights, site=inside, values={"region": "Iberia"})
    assert owned(Site).get(pk=outside.pk).notes == ""
    assert owned(Site).get(pk=inside.pk).region == "DACH"


@pytest.mark.parametrize("role", ["viewer", "manager", "provider_viewer", "provider_operator"])
def test_roles_that_may_not_change_sites(make_site: Any, access: Any, role: str) -> None:
    site = make_site()
    limits = {"provider": site.provider} if role.startswith("provider") else {}
    who, rights = access(role, **limits)
    before = owned(AuditEntry).count()
    for attempt in (
        lambda: update_site(actor=who, rights=rights, site=site, values={"notes": "x"}),
        lambda: change_life(actor=who, rights=rights, site=site, life="retired"),
        lambda: save_provider(actor=who, rights=rights, values={"slug": "p", "name": "P"}),
    ):
        with pytest.raises(NotAllowed):
            attempt()
    assert (owned(Site).get(pk=site.pk).notes, owned(Site).get(pk=site.pk).life) == ("", "active")
    assert owned(AuditEntry).count() == before


def test_change_keeps_only_what_differs_in_the_audit(make_site: Any) -> None:
    site = make_site(notes="old")
    update_site(actor=TEST, rights=everything(), site=site, values={"notes": "new", "name": site.name})
    entry = owned(AuditEntry).get(action="site.change")
    assert (entry.before, entry.after) == ({"notes": "old"}, {"notes": "new"})


def test_new_interval_reaches_the_schedule(make_site: Any) -> None:
    site = make_site(poll_interval_s=30)
    update_site(actor=TEST, rights=everything(), site=site, values={"poll_interval_s": 60})
    assert owned(PollSchedule).get(site=site).interval_s == 60


def test_rename_is_in_the_open_tenure(make_site: Any) -> None:
    site = make_site()
    update_site(actor=TEST, rights=everything(), site=site, values={"name": "New Name"})
    assert owned(SiteTenure).get(site=site).name == "New Name"


def test_hand_over_splits_every_open_fact_at_one_instant(make_site: Any, make_provider: Any) -> None:
    site, new = make_site(), make_provider("new")
    old_id = site.provider_id
    record_reports([polled(site, "down")], poller="test")
    update_site(actor=TEST, rights=everything(), site=site, values={"provider": new, "name": "Under New"})
    first, second = owned(SiteTenure).filter(site=site).order_by("valid_from")
    assert (first.provider_id, second.provider_id, first.valid_to) == (old_id, new.pk, second.valid_from)
    assert (first.name, second.name) == (site.name, "Under New")
    for model, count in ((StateInterval, 2), (Outage, 1), (ComponentSpan, 1)):
        ended = owned(model).filter(site=site, provider_id=old_id, valid_to=second.valid_from)
        begun = owned(model).filter(site=site, provider_id=new.pk, valid_from=second.valid_from, valid_to=None)
        assert (ended.count(), begun.count()) == (count, count), model
    assert owned(SiteState).get(site=site).provider_id == new.pk
    assert owned(PollSchedule).get(site=site).provider_id == new.pk


@pytest.mark.parametrize("change", ["hand-over", "hand-over and slug", "slug", "retire"])
def test_a_change_holds_neither_facts_nor_the_sites_key_while_a_poll_that_is_recorded_holds_the_state(
    make_site: Any, make_provider: Any, change: str
) -> None:
    site, after = make_site(), make_provider()
    values: dict[str, Any] = {"provider_id": after.pk} if "hand-over" in change else {}
    values |= {"slug": "other"} if "slug" in change else {}

    def do_it() -> None:
        if values:
            update_site(actor=TEST, rights=everything(), site=site, values=values)
        else:
            change_life(actor=TEST, rights=everything(), site=site, life=Life.RETIRED)
        connections["default"].close()

    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    other = ThreadPoolExecutor(1)
    with scope(TEST):
        SiteState.objects.select_for_update().get(site=site)  # as record_reports() does first
        done = other.submit(do_it)
        wait_for(lambda: rows(waits, using=OWNER) == [(1,)], 20, what="the change to wait")
        found = StateInterval.objects.select_for_update(nowait=True).filter(site=site, valid_to=None)
        assert len(found) >= 1
        Outage.objects.create(
            site=site, provider_id=site.provider_id, valid_from=timezone.now(), source="report", evidence={}
        )
    done.result(timeout=20)
    other.shutdown()
    changed = owned(Site).get(pk=site.pk)
    assert changed.provider_id == values.get("provider_id", site.provider_id)
    assert changed.slug == values.get("slug", site.slug)
    assert changed.life == ("active" if values else "retired")


def test_a_site_that_was_handed_over_meanwhile_is_not_there_for_its_old_provider(
    make_site: Any, make_provider: Any, access: Any
) -> None:
    site, new = make_site(), make_provider("new")
    old_scope, rights = access("provider_operator", provider=site.provider)
    update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
    with pytest.raises(NotFound):
        update_site(actor=old_scope, rights=rights, site=site, values={"notes": "ours"})
    with pytest.raises(NotFound):
        change_life(actor=old_scope, rights=rights, site=site, life=Life.RETIRED)


def test_after_a_hand_over_each_provider_reads_its_own_tenure_only(
    make_site: Any, make_provider: Any, access: Any
) -> None:
    site, new = make_site(), make_provider("new")
    old = site.provider
    record_reports([polled(site, "down")], poller="test")
    update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
    record_reports([polled(site, "up")], poller="test")
    old_scope, _ = access("provider_viewer", provider=old)
    new_scope, _ = access("provider_viewer", provider=new)
    with scope(old_scope):
        assert not Site.objects.filter(pk=site.pk).exists()
        assert {row.provider_id for row in StateInterval.objects.all()} == {old.pk}
        assert [row.state for row in StateInterval.objects.filter(axis="availability").order_by("id")] == [
            "unknown",
            "down",
        ]
    with scope(new_scope):
        assert Site.objects.filter(pk=site.pk).exists()
        assert {row.provider_id for row in StateInterval.objects.all()} == {new.pk}
        assert [row.state for row in StateInterval.objects.filter(axis="availability").order_by("id")] == [
            "down",
            "up",
        ]


def test_retired_site_closes_its_facts_and_is_not_polled(make_site: Any) -> None:
    site = make_site()
    record_reports([polled(site, "down")], poller="test")
    change_life(actor=TEST, rights=everything(), site=site, life="retired")
    assert not owned(PollSchedule).exists()
    for model in (StateInterval, Outage, ComponentSpan):
        assert not owned(model).filter(valid_to=None).exists()
    with pytest.raises(Conflict):
        change_life(actor=TEST, rights=everything(), site=site, life="planned")
    change_life(actor=TEST, rights=everything(), site=site, life="active")
    state = owned(SiteState).get(site=site)
    assert (state.shown, state.reachability, state.misses) == ("unknown", "", 0)
    assert owned(PollSchedule).filter(site=site).exists()


def test_only_active_sites_can_be_polled_now(make_site: Any) -> None:
    with pytest.raises(Conflict):
        poll_now(actor=TEST, rights=everything(), site=make_site(life="planned"))


def test_taking_over_from_somebody_keeps_both_in_the_record(make_site: Any, access: Any) -> None:
    site = make_site()
    record_reports([polled(site, "down")], poller="test")
    for name in ("anna", "ben"):
        who, rights = access("operator", username=name)
        acknowledge(actor=who, rights=rights, site=site)
    first, second = owned(Acknowledgement).order_by("id")
    assert (first.user_name, second.user_name, second.cleared_at) == ("anna", "ben", None)
    assert first.cleared_at is not None
    assert first.cleared_at <= timezone.now()
    entry = owned(AuditEntry).filter(action="site.acknowledge").order_by("-id").first()
    assert (entry.before, entry.after) == ({"owner": "anna"}, {"owner": "ben"})


def test_well_site_cannot_be_taken_and_no_right_means_no(make_site: Any, access: Any) -> None:
    site = make_site()
    record_reports([polled(site, "up")], poller="test")
    who, rights = access("operator")
    with pytest.raises(Conflict):
        acknowledge(actor=who, rights=rights, site=site)
    with pytest.raises(NotAllowed):
        acknowledge(actor=who, rights=Rights(), site=site)
    assert not owned(Acknowledgement).exists()


def test_providers_operator_takes_its_own_site(make_site: Any, access: Any) -> None:
    site = make_site()
    record_reports([polled(site, "down")], poller="test")
    who, rights = access("provider_operator", provider=site.provider)
    acknowledge(actor=who, rights=rights, site=site, note="truck is on its way")
    assert owned(Acknowledgement).get().note == "truck is on its way"
