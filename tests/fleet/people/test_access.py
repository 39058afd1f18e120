"""Roles and memberships: what a person may see and do."""

import pytest
from django.db import IntegrityError

from fleet.kit.errors import Invalid
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import NOBODY, Limit, Rights, Scope
from fleet.people.models import Membership, User
from fleet.people.roles import ACTIONS, Role
from fleet.people.selectors import access_of
from fleet.people.services import make_user
from tests.conftest import TEST
from tests.database import OWNER

SEE = {
    "site.view",
    "provider.view",
    "standard.view",
    "rollout.view",
    "contract.view",
    "outage.view",
    "maintenance.view",
}
FLEET = {"provider.change", "people.change", "blob.put", "standard.change", "standard.publish", "ring.change"}
FLEET |= {"rollout.plan", "rollout.run", "webhook.change", "contract.change"}
FLEET |= {"report.make", "report.decide", "report.schedule"}
MAY = {
    "viewer": SEE,
    "operator": SEE
    | {"site.poll", "site.acknowledge", "site.change", "site.enrol", "site.hold"}
    | {"rollout.plan", "rollout.run", "rollout.hold"}
    | {"outage.acknowledge", "outage.comment", "maintenance.plan", "report.make"},
    "manager": SEE
    | {"site.acknowledge", "standard.publish", "rollout.approve", "rollout.hold", "contract.change"}
    | {"outage.acknowledge", "outage.comment", "outage.correct", "maintenance.plan", "maintenance.approve"}
    | {"dispute.decide", "report.make", "report.decide", "report.schedule"},
    "admin": SEE
    | {"site.poll", "site.acknowledge", "site.change", "site.enrol", "site.hold", "site.apply"}
    | {"rollout.approve", "rollout.hold"}
    | {"outage.acknowledge", "outage.comment", "outage.correct", "maintenance.plan", "maintenance.approve"}
    | {"dispute.decide"}
    | FLEET,
    "provider_viewer": SEE,
    "provider_operator": SEE
    | {"site.poll", "site.acknowledge", "rollout.hold", "rollout.approve"}
    | {"outage.respond", "maintenance.request", "maintenance.consent", "dispute.file"},
}


def test_the_table_of_roles():
    assert ACTIONS == MAY
    assert set(Role.values) == set(MAY)


@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "admin"])
def test_a_role_without_limits_reaches_the_whole_fleet(make_person, role):
    person = make_person(role)
    who, rights = access_of(person)
    assert who == Scope(name=person.username, wide=True, limits=(Limit(),), user_id=person.pk)
    assert rights == Rights({action: (Limit(),) for action in MAY[role]})
    assert who.groups == ("fleet",)


@pytest.mark.parametrize("role", MAY)
def test_a_role_limited_to_a_provider_sees_that_provider_only(make_person, make_provider, role):
    provider = make_provider()
    person = make_person(role, provider=provider)
    who, rights = access_of(person)
    limit = Limit(provider_id=provider.pk)
    assert who == Scope(name=person.username, providers=frozenset({provider.pk}), limits=(limit,), user_id=person.pk)
    # What is about no site is for those without limits alone; who sites are is written by nobody held to a provider.
    assert rights == Rights(dict.fromkeys(MAY[role] - FLEET, (limit,)))
    assert who.groups == (f"provider.{provider.pk}",)


def test_a_role_limited_by_region_and_labels_keeps_its_limits(make_person):
    who, rights = access_of(make_person("admin", regions=["DACH", "Nordics"], labels={"tier": "1", "kind": "shop"}))
    limit = Limit(regions=frozenset({"DACH", "Nordics"}), labels=(("kind", "shop"), ("tier", "1")))
    assert (who.wide, who.limits, who.limited, who.narrowed) == (True, (limit,), True, True)
    assert rights.by_action["site.change"] == rights.by_action["site.enrol"] == (limit,)
    assert not any(rights.may(action) for action in FLEET)


def test_memberships_add_up(make_person, make_provider):
    ours, theirs = make_provider(), make_provider()
    person = make_person("provider_operator", provider=ours)
    Membership.objects.create(user=person, role="provider_viewer", provider=theirs, regions=["DACH"])
    who, rights = access_of(User.objects.get(pk=person.pk))
    assert (who.wide, who.providers) == (False, frozenset({ours.pk, theirs.pk}))
    assert rights.may_on("site.view", provider_id=theirs.pk, region="DACH", labels={})
    assert not rights.may_on("site.view", provider_id=theirs.pk, region="Nordics", labels={})
    assert rights.may_on("site.poll", provider_id=ours.pk, region="Nordics", labels={})
    assert not rights.may_on("site.poll", provider_id=theirs.pk, region="DACH", labels={})

    Membership.objects.create(user=person, role="viewer")
    who, rights = access_of(User.objects.get(pk=person.pk))
    assert (who.wide, who.limited) == (True, False)
    assert not rights.may_on("site.poll", provider_id=theirs.pk, region="DACH", labels={})


def test_nobody_without_a_membership(make_person):
    person = make_person("admin")
    person.memberships.all().delete()
    assert access_of(User.objects.get(pk=person.pk)) == (NOBODY, Rights())


def test_nobody_who_is_inactive(make_person):
    person = make_person("admin")
    person.is_active = False
    assert access_of(person) == (NOBODY, Rights())


def test_being_a_django_superuser_gives_nothing(database):
    person = User.objects.create_superuser("root", password="irrelevant-here")
    assert access_of(person) == (NOBODY, Rights())


def test_access_takes_one_query(make_person, make_provider, django_assert_num_queries):
    person = make_person("provider_viewer", provider=make_provider())
    for number in range(3):
        Membership.objects.create(user=person, role="viewer", regions=[f"r{number}"])
    person = User.objects.get(pk=person.pk)
    with django_assert_num_queries(1):
        who, _ = access_of(person)
    assert len(who.limits) == 4


# Making people ----------------------------------------------------------------------------------------------
def test_a_user_is_made_with_a_hashed_password_and_an_audit_row(database):
    person = make_user(actor=TEST, username="ada", password="correct-horse-battery", role="manager")
    assert person.check_password("correct-horse-battery")
    assert "correct-horse" not in person.password
    (entry,) = AuditEntry.objects.using(OWNER).all()
    assert (entry.actor, entry.action, entry.object_type) == ("job:test", "user.create", "user")
    assert (entry.object_id, entry.object_name, entry.after) == (str(person.pk), "ada", {"role": "manager"})


def test_making_a_user_again_sets_the_password_only(database):
    make_user(actor=TEST, username="ada", password="correct-horse-battery", role="viewer")
    again = make_user(actor=TEST, username="ada", password="another-long-secret", role="viewer")
    assert again.check_password("another-long-secret")
    assert [membership.role for membership in again.memberships.all()] == ["viewer"]
    assert list(AuditEntry.objects.using(OWNER).order_by("id").values_list("action", flat=True)) == [
        "user.create",
        "user.password",
    ]


@pytest.mark.parametrize("role", ["root", "", "provider_viewer", "provider_operator"])
def test_an_unknown_role_and_a_provider_role_without_a_provider_are_refused(database, role):
    with pytest.raises(Invalid):
        make_user(actor=TEST, username="ada", password="correct-horse-battery", role=role)
    assert not User.objects.exists()
    assert not AuditEntry.objects.using(OWNER).exists()


def test_the_database_too_refuses_a_provider_role_without_a_provider(make_person):
    with pytest.raises(IntegrityError, match="membership_provider_role"):
        Membership.objects.create(user=make_person("viewer"), role="provider_viewer")
