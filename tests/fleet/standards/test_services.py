"""Standards and rings as people make them; who may, and what stays as it is."""

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, InternalError, ProgrammingError, transaction

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from fleet.standards.contents import read_value
from fleet.standards.models import Ring, RingStandard, SiteCompliance, Standard
from fleet.standards.selectors.compliance import (
    Narrow,
    counts,
    counts_by,
    drift_by_component,
    in_state,
    over_time,
    sites_of,
    spread,
    with_component,
)
from fleet.standards.selectors.standards import (
    content_for,
    content_of_site,
    get_ring,
    get_standard,
    held_by,
    rings_in,
    standards_in,
)
from fleet.standards.services.judging import judge_due
from fleet.standards.services.rings import delete_ring, order_rings, save_ring, set_ring_standard
from fleet.standards.services.standards import (
    change_standard,
    create_standard,
    delete_standard,
    publish_standard,
    withdraw_standard,
)
from sites.models import Blob
from sites.services.desired import Order, apply
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.fleet.standards.factories import (
    CONTENT,
    IMAGE,
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
VALUES: dict[str, Any] = {"name": "2026.12-r1", "notes": "", "severity": "routine", "deadline_h": 72, "extras": "allow"}
WITH_CONFIG = {"workloads": [{"name": "pos", "image": IMAGE, "config": {"env": {"TILL": "3"}}}]}


def made(content: Any = CONTENT, **values: Any) -> Standard:
    return create_standard(actor=TEST, rights=everything(), draft=read_value(content), values={**VALUES, **values})


def audited() -> list[str]:
    with scope(TEST):
        return list(
            AuditEntry.objects.filter(object_type__in=["standard", "ring"])
            .order_by("id")
            .values_list("action", flat=True)
        )


# Standards --------------------------------------------------------------------------------------------------
def test_a_standard_is_drafted_changed_published_and_withdrawn():
    row = made(WITH_CONFIG)
    assert (row.state, row.made_by, row.by_architecture) == ("draft", "job:test", False)
    with scope(TEST):
        assert Blob.objects.count() == 1
    changed = change_standard(
        actor=TEST,
        rights=everything(),
        standard=row,
        draft=read_value(CONTENT),
        values={"deadline_h": None},
        expect=row.sha256,
    )
    assert (changed.sha256 != row.sha256, changed.deadline_h, changed.name) == (True, None, "2026.12-r1")
    published = publish_standard(actor=TEST, rights=everything(), standard=row, expect=changed.sha256)
    assert (published.state, published.published_by) == ("published", "job:test")
    gone = withdraw_standard(actor=TEST, rights=everything(), standard=row, reason="a mistake")
    assert gone.state == "withdrawn"
    assert audited() == ["standard.create", "standard.change", "standard.publish", "standard.withdraw"]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"name": "New"}, "name"),
        ({"name": "new"}, "name"),
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"severity": "huge"}, "severity"),
        ({"deadline_h": 0}, "deadline_h"),
        ({"deadline_h": 9000}, "deadline_h"),
        ({"extras": "maybe"}, "extras"),
        ({"notes": "\x07"}, "notes"),
    ],
)
def test_values_that_cannot_be_taken_are_named(values, field):
    with pytest.raises(Invalid) as caught:
        made(**values)
    assert list(caught.value.details) == [field]
    with scope(TEST):
        assert not Standard.objects.exists()


def test_a_name_is_taken_once():
    made()
    with pytest.raises(Invalid) as caught:
        made()
    assert caught.value.details == {"name": "Another standard has this name."}


def test_what_was_seen_is_what_is_published():
    row = made()
    with pytest.raises(Conflict, match="changed since you looked"):
        publish_standard(actor=TEST, rights=everything(), standard=row, expect="sha256:" + "0" * 64)
    with pytest.raises(Conflict, match="Somebody else changed it"):
        change_standard(
            actor=TEST,
            rights=everything(),
            standard=row,
            draft=read_value(CONTENT),
            values={},
            expect="sha256:" + "0" * 64,
        )
    assert audited() == ["standard.create"]


def test_what_names_a_blob_that_is_not_here_is_not_published():
    digest = "sha256:" + "d" * 64
    row = made({"workloads": [{"name": "pos", "image": IMAGE, "config_sha256": digest}]})
    with pytest.raises(Invalid) as caught:
        publish_standard(actor=TEST, rights=everything(), standard=row, expect=row.sha256)
    assert caught.value.details == {"blobs": [digest]}


def test_a_published_standard_stays_as_it_is():
    row = made()
    publish_standard(actor=TEST, rights=everything(), standard=row, expect=row.sha256)
    for act in (
        lambda: change_standard(
            actor=TEST,
            rights=everything(),
            standard=row,
            draft=read_value(CONTENT),
            values={},
            expect=row.sha256,
        ),
        lambda: delete_standard(actor=TEST, rights=everything(), standard=row),
        lambda: publish_standard(actor=TEST, rights=everything(), standard=row, expect=row.sha256),
    ):
        with pytest.raises(Conflict):
            act()
    # Neither the application nor the owner of the tables gets past the trigger.
    for column, value in (
        *(("content", "'{}'"), ("sha256", "'x'"), ("name", "'x'"), ("notes", "'x'"), ("severity", "'security'")),
        *(("deadline_h", "1"), ("extras", "'forbid'"), ("components", "'[]'"), ("by_architecture", "true")),
        *(("published_at", "now()"), ("published_by", "'x'"), ("made_by", "'x'"), ("state", "'draft'")),
    ):
        with pytest.raises((ProgrammingError, InternalError, IntegrityError)), transaction.atomic(OWNER):
            rows("SET LOCAL ROLE app_wide", using=OWNER)
            rows(f"UPDATE standards_standard SET {column} = {value}", using=OWNER)
    with pytest.raises(ProgrammingError, match="never deleted"), transaction.atomic(OWNER):
        rows("SET LOCAL ROLE app_wide", using=OWNER)
        rows("DELETE FROM standards_standard", using=OWNER)
    with scope(TEST):
        assert Standard.objects.get().content == row.content


def test_a_draft_can_be_thrown_away():
    delete_standard(actor=TEST, rights=everything(), standard=made())
    with scope(TEST):
        assert not Standard.objects.exists()
    assert audited() == ["standard.create", "standard.delete"]


def test_a_standard_that_a_ring_has_is_not_withdrawn():
    standard = make_standard()
    make_ring(standard)
    with pytest.raises(Conflict, match="The ring Stable has it"):
        withdraw_standard(actor=TEST, rights=everything(), standard=standard, reason="old")


# Rings ------------------------------------------------------------------------------------------------------
def test_rings_are_made_ordered_and_given_standards(make_site):
    site = make_site(labels={"tier": "1"})
    canary = save_ring(actor=TEST, rights=everything(), values={"name": "Canary", "slug": "canary"})
    stable = save_ring(
        actor=TEST, rights=everything(), values={"name": "Stable", "slug": "stable", "labels": {"tier": "1"}}
    )
    assert [canary.position, stable.position] == [1, 2]
    assert judged(site).ring_id == canary.pk
    order_rings(actor=TEST, rights=everything(), slugs=["stable", "canary"])
    assert judged(site).ring_id == stable.pk
    standard = make_standard()
    set_ring_standard(actor=TEST, rights=everything(), ring=stable, standard=standard, reason="the first", expect=None)
    report(site)
    assert judged(site).state == "conform"
    set_ring_standard(
        actor=TEST, rights=everything(), ring=stable, standard=None, reason="none now", expect=standard.pk
    )
    assert judged(site).standard_id is None
    with scope(TEST):
        spans = list(RingStandard.objects.order_by("id").values_list("standard_id", "until", "reason"))
    assert [(spans[0][0], spans[0][2]), spans[1]] == [(standard.pk, "the first"), (None, None, "none now")]
    assert audited() == ["ring.create", "ring.create", "ring.order", "ring.standard", "ring.standard"]


def test_a_ring_gets_a_published_standard_that_was_not_set_meanwhile():
    ring = make_ring(None)
    draft, standard = made(), make_standard()
    for given, expect, words in (
        (draft, None, "is draft; a ring has a published standard"),
        (standard, 99, "has got another standard since you looked"),
        (None, None, "has it already"),
    ):
        with pytest.raises(Conflict, match=words):
            set_ring_standard(
                actor=TEST, rights=everything(), ring=ring, standard=given, reason="because", expect=expect
            )
    with pytest.raises(Invalid):
        set_ring_standard(actor=TEST, rights=everything(), ring=ring, standard=standard, reason=" ", expect=None)


def test_what_a_ring_had_is_never_rewritten():
    make_ring(make_standard())
    for statement in (
        "UPDATE standards_ringstandard SET reason = 'x'",
        "UPDATE standards_ringstandard SET since = now()",
        "DELETE FROM standards_ringstandard",
    ):
        with pytest.raises(ProgrammingError, match="never"), transaction.atomic(OWNER):
            rows("ALTER TABLE standards_ringstandard NO FORCE ROW LEVEL SECURITY", using=OWNER)
            rows(statement, using=OWNER)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"slug": "Not One"}, "slug"),
        ({"name": ""}, "name"),
        ({"labels": {"a b": "c"}}, "labels"),
        ({"labels": ["x"]}, "labels"),
        ({"regions": "DACH"}, "regions"),
        ({"regions": [""]}, "regions"),
        ({"regions": ["\x07"]}, "regions"),
        ({"providers": [99]}, "providers"),
        ({"providers": [True]}, "providers"),
        ({"providers": ["1"]}, "providers"),
    ],
)
def test_selectors_that_cannot_be_taken_are_named(values, field):
    with pytest.raises(Invalid) as caught:
        save_ring(actor=TEST, rights=everything(), values={"name": "A", "slug": "a", **values})
    assert list(caught.value.details) == [field]
    with scope(TEST):
        assert not Ring.objects.exists()


def test_a_ring_without_history_can_be_removed_and_another_cannot(make_site):
    site = make_site()
    ring = make_ring(make_standard())
    with pytest.raises(Conflict, match="history"):
        delete_ring(actor=TEST, rights=everything(), ring=ring)
    first = save_ring(actor=TEST, rights=everything(), values={"name": "A", "slug": "a"})
    order_rings(actor=TEST, rights=everything(), slugs=["a", "stable"])
    assert judged(site).ring_id == first.pk
    delete_ring(actor=TEST, rights=everything(), ring=first)
    assert judged(site).ring_id == ring.pk
    for slugs in ([], ["stable", "stable"], ["stable", "other"]):
        with pytest.raises(Invalid):
            order_rings(actor=TEST, rights=everything(), slugs=slugs)


def test_how_many_sites_a_selector_would_hold(make_site, make_provider):
    provider = make_provider()
    make_site(provider=provider, region="North", labels={"tier": "1"})
    make_site(provider=provider, region="South")
    make_site(region="North", ring="canary")
    make_site(life="planned", region="North")
    make_ring(None, "first", 1, labels={"ring": "canary"})
    with scope(TEST):
        assert held_by(labels={}, regions=[], providers=[], before=None) == (3, 1)
        assert held_by(labels={}, regions=["North"], providers=[], before=1) == (2, 0)
        assert held_by(labels={"tier": "1"}, regions=[], providers=[], before=None) == (1, 0)
        assert held_by(labels={}, regions=["South"], providers=[provider.pk], before=None) == (1, 0)


# Who may ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("viewer", set()),
        ("operator", set()),
        ("manager", {"publish"}),
        ("admin", {"change", "publish", "ring"}),
        ("provider_viewer", set()),
        ("provider_operator", set()),
    ],
)
def test_each_role_may_what_it_may_and_a_refusal_changes_nothing(access, make_provider, role, may):
    who, rights = access(role, **({"provider": make_provider()} if role.startswith("provider") else {}))
    draft, ring, published = made(), make_ring(None), make_standard("2026.11-r9")
    acts = {
        "change": [
            lambda: create_standard(
                actor=who, rights=rights, draft=read_value(CONTENT), values={**VALUES, "name": "x1"}
            ),
            lambda: change_standard(
                actor=who, rights=rights, standard=draft, draft=read_value(CONTENT), values={}, expect=draft.sha256
            ),
        ],
        "ring": [
            lambda: save_ring(actor=who, rights=rights, values={"name": "B", "slug": "b"}),
            lambda: save_ring(actor=who, rights=rights, values={"note": "x"}, ring=ring),
            lambda: order_rings(actor=who, rights=rights, slugs=["b", "stable"]),
            lambda: set_ring_standard(
                actor=who, rights=rights, ring=ring, standard=published, reason="because", expect=None
            ),
        ],
        "publish": [
            lambda: publish_standard(actor=who, rights=rights, standard=draft, expect=draft.sha256),
            lambda: withdraw_standard(actor=who, rights=rights, standard=draft, reason="because"),
        ],
    }
    before = audited()
    for kind, each in acts.items():
        for act in each:
            if kind in may:
                act()
            else:
                with pytest.raises(NotAllowed):
                    act()
    if not may:
        assert audited() == before


def test_an_administrator_of_a_region_changes_no_standard(access):
    who, rights = access("admin", regions=["DACH"])
    for act in (
        lambda: create_standard(actor=who, rights=rights, draft=read_value(CONTENT), values=VALUES),
        lambda: save_ring(actor=who, rights=rights, values={"name": "B", "slug": "b"}),
    ):
        with pytest.raises(NotAllowed):
            act()


def test_a_provider_sees_the_standards_that_its_sites_follow_and_no_other(access, make_provider, make_site):
    own, foreign = make_provider(), make_provider()
    make_ring(make_standard("theirs"), "theirs", 1, providers=[foreign.pk])
    ours = make_ring(make_standard("ours"), "ours", 2)
    made(name="draft")
    mine, other = make_site(provider=own), make_site(provider=foreign)
    for site in (mine, other):
        report(site)
    judge_due()
    who, _ = access("provider_viewer", provider=own)
    with scope(who):
        assert [row.name for row in standards_in(who)] == ["ours"]
        assert [row.slug for row in rings_in(who)] == ["ours"]
        assert [row.site_id for row in sites_of(who)] == [mine.pk]
        assert counts(who)["sites"] == 1
        for read in (
            lambda: get_standard(scope=who, name="theirs"),
            lambda: get_standard(scope=who, name="draft"),
            lambda: get_ring(scope=who, slug="theirs"),
        ):
            with pytest.raises(NotFound):
                read()
    give(ours, None)
    judged(mine, due=False)
    with scope(who):  # what its sites followed stays readable: it is its evidence
        assert [row.name for row in standards_in(who)] == ["ours"]


# For one site -----------------------------------------------------------------------------------------------
def test_the_content_for_a_site_is_what_a_document_of_it_says(make_site):
    images = {"workloads": [{"name": "pos", "images": {"amd64": IMAGE, "arm64": OTHER_IMAGE}}]}
    standard = make_standard(content=images)
    site = make_site(labels={"arch": "arm64"})
    content = content_for(standard, site)
    assert content["standard"] == {"id": standard.pk, "sha256": standard.sha256}
    assert [one["image"] for one in content["workloads"]] == [OTHER_IMAGE]
    apply(actor=TEST, rights=everything(), site=site, content=content, reason="to standard")
    with pytest.raises(Conflict, match="there is no image while the site's architecture is not known"):
        content_for(standard, make_site())
    assert Order(site, content).content["standard"]["id"] == standard.pk


def test_what_a_site_runs_now_is_the_beginning_of_a_standard(make_site):
    site = make_site()
    with scope(TEST), pytest.raises(Conflict, match="nothing to begin from"):
        content_of_site(TEST, site)
    apply(
        actor=TEST,
        rights=everything(),
        site=site,
        content={"workloads": [{"name": "shop", "image": OTHER_IMAGE}], "os": {"packages": {}, "kernel": None}},
        reason="by hand",
    )
    report(site, KERNEL, POS)
    with scope(TEST):
        content, left = content_of_site(TEST, site)
    read = read_value(content).content
    assert [one["image"] for one in read["workloads"]] == [OTHER_IMAGE]
    assert read["os"]["kernel"] == KERNEL.version
    assert left == ["pos runs there and is not managed by Archipelago; it is left out."]


# Figures ----------------------------------------------------------------------------------------------------
def test_figures_components_spread_and_history(make_site, make_provider):
    own = make_provider()
    make_ring(make_standard(), labels={"tier": "1"})
    tier = {"labels": {"tier": "1"}}
    good, old, older, gone = (make_site(provider=own, **tier) for _ in range(4))
    make_site(region="Else")  # follows nothing
    report(good)
    from agent.protocol import Component

    kernel = Component("kernel", "linux", "6.1.0-20-amd64")
    report(old, kernel, POS)
    report(older, kernel, POS, workloads=(workload(state="exited"),))
    report(gone)
    silent(gone)
    judge_due()
    with scope(TEST):
        assert counts(TEST) == {"sites": 5, "conform": 1, "drift": 2, "unknown": 1, "none": 1}
        assert counts(TEST, Narrow(regions=("Else",)))["sites"] == 1
        assert counts_by(TEST, "provider", Narrow(providers=(own.pk,))) == {
            own.pk: {"sites": 4, "conform": 1, "drift": 2, "unknown": 1, "none": 0}
        }
        found = [(one.kind, one.name, one.verb, one.have, one.sites) for one in drift_by_component(TEST)]
        assert found == [
            ("kernel", "linux", "other", {"version": "6.1.0-20-amd64", "digest": None}, 2),
            ("workload", "pos", "stopped", {"state": "exited"}, 1),
        ]
        used = [(one.name, one.version, one.sites) for one in spread(TEST, kind="kernel")]
        assert used == [("linux", "6.1.0-20-amd64", 2), ("linux", "6.1.0-21-amd64", 2)]
        drifting = in_state(sites_of(TEST), "drift")
        assert [row.site_id for row in drifting.order_by("site_id")] == [old.pk, older.pk]
        assert in_state(sites_of(TEST), "none").count() == 1
        assert with_component(drifting, kind="kernel", name="linux", version="6.1.0-20-amd64").count() == 2
        assert with_component(drifting, kind="kernel", name="linux", version="6.1.0-19-amd64").count() == 0
        assert with_component(drifting, kind="workload", name="pos", version="exited").get().site_id == older.pk
        series = over_time(TEST, until=datetime.now(UTC), span="24h")
        assert len(series.states["conform"]) == 145
        later = over_time(TEST, Narrow(providers=(own.pk,)), until=datetime.fromtimestamp(4e9, UTC), span="24h")
    assert {name: column[-1] for name, column in later.states.items()} == {"conform": 1, "drift": 2, "unknown": 1}
    assert later.ratios()[-1] == 0.25
    with scope(TEST):
        assert SiteCompliance.objects.count() == 5
