"""Compliance, from what sites report to the verdict."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connections

from agent.protocol import Component
from fleet.kit.tenancy import scope
from fleet.standards.models import ComplianceInterval, ComponentVerdict, DueSite, SiteCompliance
from fleet.standards.selectors.judgement import Followed, followed_standards, outcome_of
from fleet.standards.services import judging
from fleet.standards.services.judging import judge_all, judge_due
from sites.models import Site, SiteState
from sites.services.sites import change_life, update_site
from tests.conftest import everything
from tests.fleet.standards.factories import (
    CONTENT,
    OTHER_DIGEST,
    OTHER_IMAGE,
    TEST,
    give,
    judged,
    make_ring,
    make_standard,
    report,
    silent,
    workload,
)
from tests.sites.builders import KERNEL, POS

pytestmark = pytest.mark.usefixtures("database")
OLD_KERNEL = Component("kernel", "linux", "6.1.0-20-amd64")


def verdict(found: SiteCompliance) -> tuple[str, list[tuple[str, str, str]]]:
    return found.state, [(one["kind"], one["name"], one["verb"]) for one in found.differences]


@pytest.fixture
def site(make_site: Any) -> Site:
    make_ring(make_standard())
    return make_site("berlin")


# Verdicts ---------------------------------------------------------------------------------------------------
def test_a_site_that_runs_its_standard_conforms(site):
    report(site)
    found = judged(site)
    assert verdict(found) == ("conform", [])
    assert (found.standard.name, found.ring.slug, found.extras, found.cause) == ("2026.11-r1", "stable", [], "")
    with scope(TEST):
        assert SiteState.objects.get(site=site).compliance == "conform"
        (interval,) = ComplianceInterval.objects.filter(site=site, valid_to=None)
    assert (interval.state, interval.provider_id, interval.standard_id) == ("conform", site.provider_id, 1)


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ((OLD_KERNEL, POS), [("kernel", "linux", "other")]),
        ((POS,), [("kernel", "linux", "missing")]),
        ((KERNEL, Component("workload", "pos", "4.2.1", OTHER_DIGEST)), [("workload", "pos", "other")]),
        ((KERNEL, Component("workload", "pos", "4.2.1", None)), [("workload", "pos", "other")]),
        ((KERNEL, Component("workload", "pos", "4.2.0", POS.digest)), [("workload", "pos", "other")]),
        ((KERNEL, Component("workload", "pos", None, POS.digest)), []),
        ((KERNEL,), [("workload", "pos", "missing")]),
        ((KERNEL, POS, Component("config", "pos", None, OTHER_DIGEST)), [("config", "pos", "unlisted")]),
        ((KERNEL, POS, Component("os", "debian", "12.7"), Component("agent", "archipelago-agent", "9")), []),
        ((OLD_KERNEL,), [("kernel", "linux", "other"), ("workload", "pos", "missing")]),
    ],
)
def test_every_component_must_be_there_and_equal(site, components, expected):
    report(site, *components)
    assert verdict(judged(site)) == ("drift" if expected else "conform", expected)


def test_a_difference_says_what_is_wanted_and_what_is_there(site):
    report(site, OLD_KERNEL, POS)
    assert judged(site).differences == [
        {
            "kind": "kernel",
            "name": "linux",
            "verb": "other",
            "want": {"version": "6.1.0-21-amd64", "digest": None},
            "have": {"version": "6.1.0-20-amd64", "digest": None},
        }
    ]


@pytest.mark.parametrize("state", ["exited", "restarting", "created", "paused"])
def test_a_workload_must_be_running_in_the_last_report(site, state):
    report(site, workloads=(workload(state=state),))
    found = judged(site)
    assert verdict(found) == ("drift", [("workload", "pos", "stopped")])
    assert (found.differences[0]["have"], found.cause) == ({"state": state}, "changed_on_site")
    report(site, workloads=())
    assert judged(site).differences[0]["have"] is None
    report(site)
    assert judged(site).state == "conform"


def test_managed_workloads_that_the_standard_does_not_name_are_drift(site):
    report(site, workloads=(workload(), workload("old-shop")))
    assert verdict(judged(site)) == ("drift", [("workload", "old-shop", "unlisted")])


@pytest.mark.parametrize(("extras", "state"), [("allow", "conform"), ("forbid", "drift")])
def test_containers_that_are_not_managed_are_listed_and_drift_only_if_forbidden(make_site, extras, state):
    make_ring(make_standard(extras=extras))
    site = make_site()
    report(site, workloads=(workload(), workload("somebodys", managed=False)))
    found = judged(site)
    assert (found.state, found.extras) == (state, ["somebodys"])


@pytest.mark.parametrize(
    ("arch", "digest", "state"),
    [
        ("amd64", POS.digest, "conform"),
        ("amd64", OTHER_DIGEST, "drift"),
        ("arm64", OTHER_DIGEST, "conform"),
        ("arm64", POS.digest, "drift"),
        ("", POS.digest, "conform"),  # not known: any of its images will do
        ("", OTHER_DIGEST, "conform"),
        ("", "sha256:" + "c" * 64, "drift"),
        ("s390x", POS.digest, "drift"),  # there is none for it
    ],
)
def test_images_are_those_of_the_sites_architecture(make_site, arch, digest, state):
    images = {"amd64": CONTENT["workloads"][0]["image"], "arm64": OTHER_IMAGE}
    make_ring(make_standard(content={"workloads": [{"name": "pos", "images": images}]}))
    site = make_site(labels={"arch": arch} if arch else {})
    report(site, Component("workload", "pos", "4.2.1", digest))
    assert judged(site).state == state


# Unknown ----------------------------------------------------------------------------------------------------
def test_an_unreachable_site_is_unknown_since_its_last_report_with_that_as_its_last_proof(site):
    report(site, at=datetime.now(UTC) - timedelta(minutes=10))
    proven = judged(site)
    silent(site)
    found = judged(site)
    with scope(TEST):
        last_good_at = SiteState.objects.get(site=site).last_good_at
    assert (found.state, found.proven_at, found.cause) == ("unknown", last_good_at, "")
    assert found.since >= proven.since
    report(site)
    assert judged(site).state == "conform"


def test_a_site_that_was_never_heard_or_follows_nothing_is_unknown(make_site):
    site = make_site()
    found = judged(site)
    assert (found.state, found.standard, found.ring, found.proven_at) == ("unknown", None, None, None)
    report(site)
    assert judged(site).state == "unknown"
    make_ring(None)
    found = judged(site, due=False)
    assert (found.state, found.standard_id, found.ring.slug) == ("unknown", None, "stable")


# Rings ------------------------------------------------------------------------------------------------------
def test_a_site_follows_the_first_ring_by_position_that_holds_it(make_site):
    first, second = make_standard("r1"), make_standard("r2")
    south = make_site(region="South")
    makers = {
        "own": {"labels": {"ring": "canary"}},
        "labels": {"labels": {"tier": "1"}},
        "regions": {"regions": ["North", "South"], "providers": [south.provider_id]},
    }
    rings = [make_ring(first, slug, n, **values) for n, (slug, values) in enumerate(makers.items(), 1)]
    rest = make_ring(second, "rest", 9)
    canary = make_site(ring="canary", labels={"tier": "1"})
    labelled = make_site(labels={"tier": "1", "x": "y"})
    elsewhere = make_site(region="South")  # of another provider
    with scope(TEST):
        found = followed_standards()
        some = followed_standards([canary.pk])
    assert found == {
        canary.pk: Followed(rings[0].pk, first.pk),
        labelled.pk: Followed(rings[1].pk, first.pk),
        south.pk: Followed(rings[2].pk, first.pk),
        elsewhere.pk: Followed(rest.pk, second.pk),
    }
    assert some == {canary.pk: Followed(rings[0].pk, first.pk)}


def test_a_label_moves_a_site_to_another_ring_and_has_it_judged(make_site):
    make_ring(make_standard("next", {"os": {"kernel": "6.9"}}), "canary", 1, labels={"tier": "1"})
    make_ring(make_standard(), "stable", 2)
    site = make_site()
    report(site)
    assert judged(site).ring.slug == "stable"
    update_site(actor=TEST, rights=everything(), site=site, values={"labels": {"tier": "1"}})
    found = judged(site)
    assert (found.ring.slug, found.standard.name, found.state) == ("canary", "next", "drift")


# When and why -----------------------------------------------------------------------------------------------
def test_drift_begins_with_the_report_that_shows_it_and_each_difference_keeps_its_begin(make_site):
    make_ring(make_standard(), since=datetime.now(UTC) - timedelta(hours=2))
    site = make_site()
    report(site, at=datetime.now(UTC) - timedelta(hours=1))
    judged(site, due=False)
    first = datetime.now(UTC) - timedelta(seconds=50)
    with connections["owner"].cursor() as cursor:
        cursor.execute("UPDATE standards_sitecompliance SET since = now() - interval '1 hour'")
    report(site, OLD_KERNEL, POS, at=first)
    found = judged(site)
    assert (found.since, found.cause) == (first, "changed_on_site")
    second = first + timedelta(seconds=20)
    report(site, OLD_KERNEL, Component("workload", "pos", "4.2.0", POS.digest), at=second)
    found = judged(site)
    assert found.since == first
    began = {key: datetime.fromisoformat(value) for key, value in found.began.items()}
    assert began == {"kernel/linux": first, "workload/pos": second}


def test_a_drift_because_the_standard_changed_says_so(site):
    report(site, at=datetime.now(UTC) - timedelta(minutes=1))
    judged(site)
    with scope(TEST):
        ring = SiteCompliance.objects.get(site=site).ring
    give(ring, make_standard("2026.11-r2", {"os": {"kernel": "6.9.0"}, "workloads": CONTENT["workloads"]}))
    found = judged(site, due=False)
    assert (found.state, found.cause) == ("drift", "standard_changed")
    with scope(TEST):
        given = ring.standards.get(until=None).since
    assert found.since == given
    report(site, Component("kernel", "linux", "6.9.0"), POS)
    assert judged(site).state == "conform"


def test_rollouts_say_why_a_site_drifts_before_anything_else_does(site, monkeypatch):
    asked = []

    def causes(site_ids: Any) -> Any:
        asked.append(site_ids)
        return {site.pk: ("failed_step", "step 4 of rollout 7: no_space")}

    monkeypatch.setattr(judging, "_causes", [])
    judging.add_causes(causes)
    judging.add_causes(causes)
    report(site, OLD_KERNEL, POS)
    found = judged(site)
    assert (found.cause, found.cause_detail) == ("failed_step", "step 4 of rollout 7: no_space")
    assert asked == [[site.pk]]


# The pass ---------------------------------------------------------------------------------------------------
def test_what_did_not_change_is_not_judged_again_and_nothing_is_written(site):
    report(site)
    assert judge_due() == 1
    report(site)  # figures only
    silent(site, polls=1)
    with scope(TEST):
        assert not DueSite.objects.exists()
        before = SiteCompliance.objects.values_list("judged_at", flat=True).get()
    assert (judge_due(), judge_all()) == (0, 0)
    with scope(TEST):
        assert SiteCompliance.objects.values_list("judged_at", flat=True).get() == before
        assert ComplianceInterval.objects.count() == 1


def test_a_pair_is_compared_once_however_many_sites_have_it(site, make_site):
    others = [make_site() for _ in range(3)]
    for one in (site, *others):
        report(one)
    judge_due()
    report(make_site(), OLD_KERNEL, POS)
    judge_due()
    with scope(TEST):
        found = list(ComponentVerdict.objects.order_by("id").values_list("verdict", flat=True))
    assert found == ["conform", "drift"]


def test_a_lost_note_is_healed_by_the_pass_over_all(site):
    report(site)
    with connections["owner"].cursor() as cursor:
        cursor.execute("TRUNCATE standards_duesite")
    assert judge_due() == 0
    assert judge_all() == 1
    assert judged(site).state == "conform"


def test_intervals_meet_and_say_what_was_when(site):
    report(site, at=datetime.now(UTC) - timedelta(minutes=3))
    judge_due()
    report(site, OLD_KERNEL, POS)
    judge_due()
    report(site)
    judge_due()
    with scope(TEST):
        found = list(ComplianceInterval.objects.order_by("id").values_list("state", "valid_from", "valid_to"))
    assert [state for state, _, _ in found] == ["conform", "drift", "conform"]
    assert [end for _, _, end in found[:-1]] == [begin for _, begin, _ in found[1:]]
    assert found[-1][2] is None


def test_a_retired_site_is_forgotten_and_its_history_ends(site):
    report(site)
    judge_due()
    change_life(actor=TEST, rights=everything(), site=site, life="retired")
    assert judge_due() == 1
    with scope(TEST):
        assert not SiteCompliance.objects.exists()
        assert not ComplianceInterval.objects.filter(valid_to=None).exists()
        assert SiteState.objects.get(site=site).compliance == "unknown"


def test_a_hand_over_leaves_the_history_with_the_old_provider(site, make_provider):
    report(site)
    judge_due()
    old, new = site.provider_id, make_provider()
    update_site(actor=TEST, rights=everything(), site=site, values={"provider_id": new.pk})
    with scope(TEST):
        assert not SiteCompliance.objects.exists()
    judge_due()
    with scope(TEST):
        found = list(ComplianceInterval.objects.order_by("id").values_list("provider_id", "state", "valid_to"))
        row = SiteCompliance.objects.get()
    assert (found[0][0], found[0][2] is None) == (old, False)
    assert (found[-1][0], found[-1][2]) == (new.pk, None)
    assert row.provider_id == new.pk


# Numbers beforehand -----------------------------------------------------------------------------------------
def test_what_a_standard_would_do_is_counted_and_nothing_is_written(site, make_site):
    report(site)
    report(make_site(), OLD_KERNEL, POS)
    gone = make_site()
    report(gone)
    silent(gone)
    judge_due()
    later = make_standard("2026.11-r2", {"os": {"kernel": "6.9.0"}})
    with scope(TEST):
        ring = SiteCompliance.objects.get(site=site).ring
        found = outcome_of(ring_id=ring.pk, standard_id=later.pk)
        stays = outcome_of(ring_id=ring.pk, standard_id=SiteCompliance.objects.get(site=site).standard_id)
        assert ComponentVerdict.objects.exclude(standard_id=1).count() == 0
    assert (found.sites, found.conform, found.drift, found.unknown, found.newly) == (3, 0, 2, 1, 1)
    assert (stays.sites, stays.conform, stays.drift, stays.unknown, stays.newly) == (3, 1, 1, 1, 0)
