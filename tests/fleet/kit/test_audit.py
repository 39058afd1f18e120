"""record(): one row a change, in its transaction, with what differs."""

import pytest
from django.db import transaction

from fleet.kit.audit import record, record_many
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Scope, scope
from tests.database import OWNER, rows

WHO = Scope(name="ada", wide=True, user_id=7, address="192.0.2.1", request_id="abc")
OBJECT = {"object_type": "site", "object_id": 3, "object_name": "Harbour", "provider_id": None}


@pytest.mark.usefixtures("database")
def test_a_row_says_who_did_what_to_what_from_where():
    with scope(WHO):
        record(WHO, "site.change", **OBJECT, before={"a": 1, "b": 2}, after={"a": 1, "b": 3, "c": 4}, note="because")
    (entry,) = AuditEntry.objects.using(OWNER).all()
    assert (entry.actor_id, entry.actor, entry.address, entry.request_id) == (7, "ada", "192.0.2.1", "abc")
    assert (entry.action, entry.object_type, entry.object_id, entry.object_name) == (
        *("site.change", "site", "3", "Harbour"),
    )
    # With both given only what differs is kept.
    assert (entry.before, entry.after, entry.note) == ({"b": 2}, {"b": 3, "c": 4}, "because")


@pytest.mark.usefixtures("database")
def test_its_time_is_the_databases():
    with scope(WHO):
        record(WHO, "x", **OBJECT)
    assert rows("SELECT abs(extract(epoch FROM now() - at)) < 60 FROM kit_auditentry", using=OWNER) == [(True,)]


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("given", [{"before": {"a": 1}}, {"after": {"a": 1}}, {}])
def test_one_side_alone_is_kept_whole(given):
    with scope(WHO):
        record(WHO, "x", **OBJECT, **given)
    (entry,) = AuditEntry.objects.using(OWNER).all()
    assert (entry.before, entry.after) == (given.get("before"), given.get("after"))


@pytest.mark.usefixtures("database")
def test_it_goes_with_the_change_that_is_rolled_back():
    with pytest.raises(ZeroDivisionError), scope(WHO):
        record(WHO, "x", **OBJECT)
        raise ZeroDivisionError
    with scope(WHO):
        record_many(WHO, "y", [(OBJECT, {"n": number}) for number in range(3)])
        transaction.set_rollback(True)
    assert not AuditEntry.objects.using(OWNER).exists()


@pytest.mark.usefixtures("database")
def test_many_at_once_have_a_row_each():
    with scope(WHO):
        record_many(WHO, "site.create", [({**OBJECT, "object_id": number}, {"n": number}) for number in range(3)])
    found = AuditEntry.objects.using(OWNER).order_by("id").values_list("object_id", "before", "after", "actor")
    assert list(found) == [(str(number), None, {"n": number}, "ada") for number in range(3)]


@pytest.mark.usefixtures("database")
def test_long_names_are_cut_not_refused():
    with scope(WHO):
        record(WHO, "x", **{**OBJECT, "object_name": "x" * 500})
    assert AuditEntry.objects.using(OWNER).get().object_name == "x" * 200
