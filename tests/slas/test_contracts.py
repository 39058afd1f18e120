"""Contracts as people make and change them; whose they are to see; and which sites they cover when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, transaction

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Limit, Scope, scope
from sites.services.sites import update_site
from slas.models import Contract, ContractVersion, Segment
from slas.selectors.contracts import (
    contracts_in,
    covered,
    get_contract,
    terms_of,
    version_as_of,
    versions_of,
    written,
)
from slas.services.contracts import change_contract, check_agreement, create_contract
from slas.upkeep import ms
from tests.conftest import everything
from tests.database import OWNER, rows
from tests.slas.factories import (
    DECEMBER,
    NOVEMBER,
    TEST,
    agreement,
    make_contract,
    objective,
    segment,
    tenures,
)

pytestmark = pytest.mark.usefixtures("database")


def change(version: ContractVersion, *segments: Any, expect: int | None = None, **values: Any) -> ContractVersion:
    return change_contract(
        actor=TEST,
        rights=everything(),
        contract=version.contract,
        agreement=agreement(*segments, **values),
        reason="it is dearer now",
        expect=version.number if expect is None else expect,
    )


# Versions ---------------------------------------------------------------------------------------------------
def test_a_change_is_a_new_version_and_the_older_one_stays(make_provider):
    make_provider("nord")
    first = make_contract(segment("nord"))
    second = change(first, segment("nord", fee="1500.00"))
    with scope(TEST):
        newest, older = versions_of(first.contract)
        assert (newest.number, newest.reason, newest.made_by) == (2, "it is dearer now", "job:test")
        assert [one["fee"] for one in written(newest)["segments"]] == ["1500"]
        assert [one["fee"] for one in written(older)["segments"]] == ["1200"]
        assert version_as_of(first.contract).pk == second.pk
        assert version_as_of(first.contract, first.made_at).pk == first.pk
        with pytest.raises(NotFound):
            version_as_of(first.contract, first.made_at - timedelta(seconds=1))
        (terms,) = [terms_of(one) for one in newest.segments.all()]
        assert terms.objectives[0].measure == "availability"
        audited = AuditEntry.objects.filter(object_type="contract").order_by("id")
        assert [(row.action, row.note, row.provider_id) for row in audited] == [
            ("contract.create", "agreed today", None),
            ("contract.change", "it is dearer now", None),
        ]
        assert audited[1].before["segments"][0]["fee"] == "1200"


@pytest.mark.parametrize("table", ["slas_contract", "slas_contractversion", "slas_segment"])
def test_what_was_agreed_cannot_be_overwritten(make_provider, table):
    make_provider("nord")
    make_contract(segment("nord"))
    for statement in (f"UPDATE {table} SET id = id", f"DELETE FROM {table}"):
        with pytest.raises(ProgrammingError, match="permission denied"), scope(TEST), transaction.atomic():
            rows(statement)


def test_what_is_read_is_what_may_be_written_again(make_provider):
    make_provider("nord")
    first = make_contract(segment("nord", ends="2026-12-01T00:00"), labels={"kind": "shop"}, regions=["DACH"])
    with scope(TEST):
        value = written(first)
    with pytest.raises(Conflict, match="Nothing differs"):
        change_contract(
            actor=TEST, rights=everything(), contract=first.contract, agreement=value, reason="the same", expect=1
        )
    with scope(TEST):
        assert versions_of(first.contract).count() == 1


def test_who_began_from_an_older_version_is_told(make_provider):
    make_provider("nord")
    first = make_contract(segment("nord"))
    change(first, segment("nord", fee="1500"))
    with pytest.raises(Conflict, match="meanwhile"):
        change(first, segment("nord", fee="1600"), expect=1)
    with scope(TEST):
        assert versions_of(first.contract).count() == 2


def test_nothing_is_half_saved(make_provider):
    make_provider("nord")
    bad = agreement(segment("nord"), segment("nord", objectives=[objective(target="100")], currency="ducats"))
    with pytest.raises(Invalid) as error:
        create_contract(actor=TEST, rights=everything(), slug="x", name="X", agreement=bad, reason="because")
    assert set(error.value.details) == {
        "segments.1.begins",
        "segments.1.currency",
        "segments.1.objectives.0.target",
    }
    with pytest.raises(Invalid) as error:
        create_contract(
            actor=TEST,
            rights=everything(),
            slug="Not A Slug",
            name="",
            agreement=agreement(segment("nord")),
            reason="because",
        )
    assert set(error.value.details) == {"slug", "name"}
    with pytest.raises(Invalid, match="Say why"):
        make_and_say("")
    make_contract(segment("nord"))
    with pytest.raises(Invalid, match="taken"):
        make_contract(segment("nord"))
    with scope(TEST):
        assert (Contract.objects.count(), ContractVersion.objects.count(), Segment.objects.count()) == (1, 1, 1)
    assert [fault.path for fault in check_agreement(actor=TEST, rights=everything(), agreement=bad)] == [
        "segments.1.currency",
        "segments.1.objectives.0.target",
        "segments.1.begins",
    ]


def make_and_say(reason: str) -> ContractVersion:
    return create_contract(
        actor=TEST, rights=everything(), slug="y", name="Y", agreement=agreement(segment("nord")), reason=reason
    )


# Who --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("role", "limits"),
    [
        ("viewer", {}),
        ("operator", {}),
        ("provider_viewer", {"provider": True}),
        ("provider_operator", {"provider": True}),
        ("manager", {"provider": True}),
        ("manager", {"regions": ["DACH"]}),
        ("admin", {"labels": {"tier": "1"}}),
    ],
)
def test_who_may_not_change_contracts_is_refused_and_changes_nothing(make_provider, access, role, limits):
    nord = make_provider("nord")
    first = make_contract(segment("nord"))
    who, rights = access(role, **({**limits, "provider": nord} if "provider" in limits else limits))
    with pytest.raises(NotAllowed):
        create_contract(
            actor=who, rights=rights, slug="mine", name="Mine", agreement=agreement(segment("nord")), reason="mine"
        )
    with pytest.raises(NotAllowed):
        change_contract(
            actor=who,
            rights=rights,
            contract=first.contract,
            agreement=agreement(segment("nord", fee="1")),
            reason="mine",
            expect=1,
        )
    with pytest.raises(NotAllowed):
        check_agreement(actor=who, rights=rights, agreement={})
    with scope(TEST):
        assert list(ContractVersion.objects.values_list("number", flat=True)) == [1]


@pytest.mark.parametrize("role", ["manager", "admin"])
def test_managers_change_contracts(make_provider, access, role):
    make_provider("nord")
    who, rights = access(role)
    made = create_contract(
        actor=who, rights=rights, slug="a", name="A", agreement=agreement(segment("nord")), reason="agreed"
    )
    assert made.made_by == who.name


def test_a_provider_sees_its_own_contracts_and_in_them_its_own_segments(make_provider):
    nord, sued = make_provider("nord"), make_provider("sued")
    both = make_contract(segment("nord", fee="1"), segment("sued", fee="2"), slug="both")
    make_contract(segment("sued"), slug="theirs")
    own = Scope(name="n", providers=frozenset({nord.pk}), limits=(Limit(provider_id=nord.pk),))
    with scope(own):
        assert [one.slug for one in contracts_in(own)] == ["both"]
        assert get_contract(scope=own, slug="both").pk == both.contract_id
        with pytest.raises(NotFound):
            get_contract(scope=own, slug="theirs")
        (version,) = versions_of(both.contract)
        assert [one["fee"] for one in written(version)["segments"]] == ["1"]
        assert rows("SELECT provider_id FROM slas_segment") == [(nord.pk,)]
        assert rows("SELECT count(*) FROM slas_contractversion") == [(1,)]
    with scope(Scope(name="s", providers=frozenset({sued.pk}))):
        assert Contract.objects.count() == 2
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            Segment.objects.filter(pk=1).update(fee=0)


def test_a_provider_sees_that_a_newer_version_has_none_of_it(make_provider):
    nord = make_provider("nord")
    make_provider("sued")
    first = make_contract(segment("nord"), segment("sued"))
    change(first, segment("sued"))
    own = Scope(name="n", providers=frozenset({nord.pk}), limits=(Limit(provider_id=nord.pk),))
    with scope(own):
        assert (version_as_of(first.contract).number, written(version_as_of(first.contract))["segments"]) == (2, [])
        assert len(written(version_as_of(first.contract, first.made_at))["segments"]) == 1


def test_after_a_hand_over_the_old_provider_still_sees_what_it_had(make_provider, make_site):
    nord, sued = make_provider("nord"), make_provider("sued")
    site = make_site("moves", nord)
    version = make_contract(segment("nord", begins="2020-01-01T00:00"), segment("sued", begins="2020-01-01T00:00"))
    changed = update_site(actor=TEST, rights=everything(), site=site, values={"provider_id": sued.pk})
    with scope(Scope(name="n", providers=frozenset({nord.pk}))):
        (own,) = covered(version, NOVEMBER, datetime(2100, 1, 1, tzinfo=UTC))
    assert (own.site_id, own.window[1]) == (site.pk, ms(changed.updated_at))


def test_who_is_limited_to_a_region_sees_no_contract(make_provider, access):
    make_provider("nord")
    make_contract(segment("nord"))
    who, _ = access("viewer", regions=["DACH"])
    with scope(who):
        assert list(contracts_in(who)) == []
        with pytest.raises(NotFound):
            get_contract(scope=who, slug="shops")


# Which sites ------------------------------------------------------------------------------------------------
def test_a_hand_over_moves_the_site_to_the_others_segment(make_provider, make_site):
    nord, sued = make_provider("nord"), make_provider("sued")
    moves, stays, late = make_site("moves", nord), make_site("stays", sued), make_site("late", nord)
    on_16th = datetime(2026, 11, 16, 9, 30, tzinfo=UTC)
    tenures(moves, (nord, NOVEMBER, on_16th), (sued, on_16th, None))
    tenures(stays, (sued, datetime(2020, 1, 1, tzinfo=UTC), None))
    tenures(late, (nord, DECEMBER, None))
    version = make_contract(segment("nord"), segment("sued", ends="2026-11-20T00:00"))
    with scope(TEST):
        by_slug = {one.pk: one.provider.slug for one in version.segments.all()}
        found = [
            (one.site_id, by_slug[one.segment_id], one.begin, one.end) for one in covered(version, NOVEMBER, DECEMBER)
        ]
    until = datetime(2026, 11, 20, tzinfo=UTC)
    assert found == [
        (moves.pk, "nord", NOVEMBER, on_16th),
        (moves.pk, "sued", on_16th, until),
        (stays.pk, "sued", NOVEMBER, until),
    ]


def test_a_change_of_labels_counts_from_then_on(make_provider, make_site):
    nord = make_provider("nord")
    shop = make_site("shop", nord, labels={"kind": "shop"}, region="DACH")
    make_site("barn", nord, labels={"kind": "barn"}, region="DACH")
    make_site("far", nord, labels={"kind": "shop"}, region="Iberia")
    tenures(shop, (nord, NOVEMBER, None))
    version = make_contract(segment("nord", begins="2020-01-01T00:00"), labels={"kind": "shop"}, regions=["DACH"])
    changed = update_site(actor=TEST, rights=everything(), site=shop, values={"labels": {"kind": "barn"}})
    forever = datetime(2100, 1, 1, tzinfo=UTC)
    with scope(TEST):
        found = [(one.site_id, one.window) for one in covered(version, NOVEMBER, forever)]
    assert found == [(shop.pk, (ms(NOVEMBER), ms(changed.updated_at)))]


def test_a_real_hand_over_leaves_no_moment_uncovered(make_provider, make_site):
    nord, sued = make_provider("nord"), make_provider("sued")
    site = make_site("moves", nord, labels={"kind": "shop"})
    version = make_contract(
        segment("nord", begins="2020-01-01T00:00"), segment("sued", begins="2020-01-01T00:00"), labels={"kind": "shop"}
    )
    update_site(actor=TEST, rights=everything(), site=site, values={"provider_id": sued.pk})
    with scope(TEST):
        first, second = covered(version, NOVEMBER, datetime(2100, 1, 1, tzinfo=UTC))
    assert first.end == second.begin
    with scope(Scope(name="s", providers=frozenset({sued.pk}))):
        assert rows("SELECT provider_id FROM slas_sitetraits") == [(sued.pk,)]


def test_the_sites_own_ring_counts_as_a_label(make_provider, make_site):
    nord = make_provider("nord")
    site = make_site("first", nord, ring="canary")
    make_site("second", nord)
    tenures(site, (nord, NOVEMBER, None))
    version = make_contract(segment("nord"), labels={"ring": "canary"})
    with scope(TEST):
        assert {one.site_id for one in covered(version, NOVEMBER, datetime(2100, 1, 1, tzinfo=UTC))} == {site.pk}
    assert rows("SELECT count(*) FROM slas_sitetraits", using=OWNER) == [(2,)]
