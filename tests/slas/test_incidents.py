"""What people do about outages, who may, and what stays of it."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import ProgrammingError, transaction

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from sites.models import Acknowledgement
from sites.services.reports import record_reports
from sites.services.sites import acknowledge, update_site
from slas.models import Finding, Incident, IncidentNote
from slas.selectors.incidents import get_incident, outage_of, response_s, spans_in, unowned, why_of
from slas.services.deriving import derive_due
from slas.services.incidents import acknowledge_incident, comment_incident, correct_cause
from tests.conftest import everything
from tests.database import rows
from tests.sites.builders import polled
from tests.slas.factories import NOVEMBER, TEST, states

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def nord(make_provider: Any) -> Any:
    return make_provider("nord")


@pytest.fixture
def site(make_site: Any, nord: Any) -> Any:
    found = make_site("own", nord, region="DACH", labels={"tier": "1"})
    states(found, "availability", (NOVEMBER, "down"))
    derive_due()
    return found


@pytest.fixture
def incident(site: Any) -> Incident:
    with scope(TEST):
        return Incident.objects.get(site=site)


def said() -> list[tuple[str, str, str]]:
    with scope(TEST):
        return [(note.kind, note.side, note.author_name) for note in IncidentNote.objects.order_by("id")]


MEMBERS = [
    ("operator", {}, "operator"),
    ("manager", {}, "operator"),
    ("admin", {}, "operator"),
    ("operator", {"regions": ["DACH"]}, "operator"),
    ("operator", {"labels": {"tier": "1"}}, "operator"),
    ("operator", {"provider": True}, "operator"),
    ("provider_operator", {"provider": True}, "provider"),
]
STRANGERS = [
    ("viewer", {}, NotAllowed),
    ("provider_viewer", {"provider": True}, NotAllowed),
    ("operator", {"regions": ["Iberia"]}, NotFound),
    ("operator", {"labels": {"tier": "9"}}, NotFound),
    ("provider_operator", {"provider": "sued"}, NotFound),
    ("manager", {"provider": "sued"}, NotFound),
]


def enter(access: Any, make_provider: Any, nord: Any, role: str, limits: dict[str, Any]) -> Any:
    if limits.get("provider") is True:
        return access(role, provider=nord)
    if limits.get("provider"):
        return access(role, provider=make_provider("sued"))
    return access(role, **limits)


@pytest.mark.parametrize(("role", "limits", "side"), MEMBERS)
def test_who_may_takes_it_and_comments_for_their_side(incident, access, make_provider, nord, role, limits, side):
    who, rights = enter(access, make_provider, nord, role, limits)
    acknowledge_incident(actor=who, rights=rights, incident=incident)
    comment_incident(actor=who, rights=rights, incident=incident, text="a fuse, we think")
    assert said() == [("acknowledged", side, who.name), ("comment", side, who.name)]
    with scope(who):
        found = outage_of(who, get_incident(scope=who, pk=incident.pk))
        assert found.owner is not None
        assert (found.owner.author_name, found.is_open, len(found.parts)) == (who.name, True, 1)
        assert list(unowned(who)) == []
        assert (response_s(found.parts[0]) is not None) == (side == "provider")
    with scope(TEST):
        audited = AuditEntry.objects.filter(object_type="incident").order_by("id").values_list("action", "provider_id")
        assert list(audited) == [("incident.acknowledged", nord.pk), ("incident.comment", nord.pk)]


@pytest.mark.parametrize(("role", "limits", "error"), STRANGERS)
def test_a_stranger_is_refused_and_changes_nothing(incident, access, make_provider, nord, role, limits, error):
    who, rights = enter(access, make_provider, nord, role, limits)
    for act in (acknowledge_incident, comment_incident):
        with pytest.raises(error):
            act(actor=who, rights=rights, incident=incident, text="mine")
    with pytest.raises(error):
        correct_cause(actor=who, rights=rights, incident=incident, cause="link", reason="it was theirs")
    assert said() == []
    with scope(TEST):
        assert Finding.objects.count() == 0
    if error is NotFound:
        with scope(who):
            assert list(spans_in(who)) == []
            with pytest.raises(NotFound):
                get_incident(scope=who, pk=incident.pk)


@pytest.mark.parametrize(
    ("role", "limits"), [("operator", {}), ("provider_operator", {"provider": True}), ("viewer", {})]
)
def test_only_managers_correct_causes(incident, access, make_provider, nord, role, limits):
    who, rights = enter(access, make_provider, nord, role, limits)
    with pytest.raises(NotAllowed):
        correct_cause(actor=who, rights=rights, incident=incident, cause="link", reason="it was not us")
    with scope(TEST):
        assert Finding.objects.count() == 0


def test_a_correction_counts_over_every_rule_and_both_stay_readable(incident, site, access):
    who, rights = access("manager")
    (made,) = correct_cause(actor=who, rights=rights, incident=incident, cause="hardware", reason="a disk had died")
    # A rule that finds something later does not overrule a person.
    with scope(TEST):
        Finding.objects.create(
            incident=incident, provider=site.provider, cause="power", charged_to="provider", reason="rule",
            author_name="job:outages", at=made.at + timedelta(hours=1),
        )  # fmt: skip
        (why,) = why_of([incident.pk]).values()
        assert (why.cause, why.charged_to, why.is_correction, why.reason) == (
            *("hardware", "provider"),
            True,
            "a disk had died",
        )
        assert why_of([incident.pk], as_of=made.at - timedelta(seconds=1)) == {}
    with pytest.raises(Conflict):
        correct_cause(actor=who, rights=rights, incident=incident, cause="hardware", reason="a disk had died")
    correct_cause(
        actor=who, rights=rights, incident=incident, cause="hardware", charged_to="operator", reason="our own disk"
    )
    with scope(TEST):
        assert [why.charged_to for why in why_of([incident.pk]).values()] == ["operator"]
        assert Finding.objects.count() == 3
        assert AuditEntry.objects.filter(action="incident.correct").count() == 2


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cause": "witches", "reason": "so it seems"}, "cause"),
        ({"cause": "link", "charged_to": "me", "reason": "so it seems"}, "charged_to"),
        ({"cause": "link", "reason": " "}, "reason"),
    ],
)
def test_a_correction_needs_a_cause_that_there_is_and_a_reason(incident, access, values, field):
    who, rights = access("manager")
    with pytest.raises(Invalid) as error:
        correct_cause(actor=who, rights=rights, incident=incident, **values)
    assert list(error.value.details) == [field]


def test_what_was_said_cannot_be_changed(incident, access):
    who, rights = access("operator")
    comment_incident(actor=who, rights=rights, incident=incident, text="so it was")
    for statement in ("UPDATE slas_incidentnote SET text = ''", "DELETE FROM slas_finding"):
        with pytest.raises(ProgrammingError, match="permission denied"), scope(TEST), transaction.atomic():
            rows(statement)
    with pytest.raises(Invalid):
        comment_incident(actor=who, rights=rights, incident=incident, text="  ")
    with pytest.raises(Invalid):
        comment_incident(actor=who, rights=rights, incident=incident, text="x" * 2001)
    with pytest.raises(NotAllowed):
        comment_incident(actor=TEST, rights=everything(), incident=incident, text="a job says nothing")


def test_what_is_over_cannot_be_taken(incident, site, access):
    states(site, "availability", (NOVEMBER, "down"), (NOVEMBER + timedelta(minutes=5), "up"))
    derive_due()
    who, rights = access("operator")
    with pytest.raises(Conflict, match="over"):
        acknowledge_incident(actor=who, rights=rights, incident=incident)
    comment_incident(actor=who, rights=rights, incident=incident, text="it is well again")


def test_after_a_hand_over_each_provider_speaks_of_its_own_part(incident, site, access, make_provider, nord):
    sued = make_provider("sued")
    old, old_rights = access("provider_operator", provider=nord)
    new, new_rights = access("provider_operator", provider=sued)
    comment_incident(actor=old, rights=old_rights, incident=incident, text="nord was here")
    update_site(actor=TEST, rights=everything(), site=site, values={"provider_id": sued.pk})
    derive_due()
    acknowledge_incident(actor=new, rights=new_rights, incident=incident)
    with pytest.raises(Conflict, match="over"):
        acknowledge_incident(actor=old, rights=old_rights, incident=incident)
    with scope(new):
        found = outage_of(new, incident)
        assert [(note.kind, note.provider_id) for note in found.notes] == [("acknowledged", sued.pk)]
        assert [part.provider_id for part in found.parts] == [sued.pk]
    with scope(old):
        assert [note.text for note in outage_of(old, incident).notes] == ["nord was here"]
    who, rights = access("manager")
    correct_cause(actor=who, rights=rights, incident=incident, cause="power", reason="the street was dark")
    with scope(TEST):
        assert {key[1] for key in why_of([incident.pk])} == {nord.pk, sued.pk}
        assert len(outage_of(TEST, incident).parts) == 2


def test_whoever_takes_the_sites_trouble_takes_its_outage_and_the_other_way_round(make_site, nord, access):
    """One click at night is enough, wherever it is made; a provider's answers for the provider."""
    first, second = make_site("first", nord), make_site("second", nord)
    for _ in range(3):
        record_reports([polled(first, "down"), polled(second, "down")], poller="test")
    derive_due()
    noc, rights = access("operator")
    acknowledge(actor=noc, rights=rights, site=first, note="on my way")
    theirs, their_rights = access("provider_operator", provider=nord)
    with scope(TEST):
        incident = Incident.objects.get(site=second, kind="down")
    acknowledge_incident(actor=theirs, rights=their_rights, incident=incident, text="a fuse")
    with scope(TEST):
        notes = IncidentNote.objects.filter(incident__kind="down").order_by("id")
        assert [(note.incident.site_id, note.side, note.text) for note in notes] == [
            (first.pk, "operator", "on my way"),
            (second.pk, "provider", "a fuse"),
        ]
        owners = Acknowledgement.objects.filter(cleared_at=None).order_by("id")
        assert [(row.site_id, row.user_name) for row in owners] == [(first.pk, noc.name), (second.pk, theirs.name)]
