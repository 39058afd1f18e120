"""Webhooks on the real tables: what is written when, who may change them, secrets, and what is kept."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import ProgrammingError
from django.urls import reverse

from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import Scope, scope
from fleet.rollouts import hooks, states
from fleet.rollouts.gates import Outcome
from fleet.rollouts.models import RolloutEvent, WebhookDelivery, WebhookEndpoint
from fleet.rollouts.selectors.webhooks import endpoints_in, get_endpoint, secrets_of
from fleet.rollouts.services import control, webhooks
from fleet.rollouts.services.sending import prune
from fleet.rollouts.services.ticking import tick
from slas.states import Told
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import Played

URL = "https://hooks.example.com/in"
Play = Callable[..., Played]


@pytest.fixture
def play(make_site: Any, make_person: Any) -> Play:
    """Factory of planned rollouts with waves of so many sites."""
    return lambda *waves, **plan: Played(make_site, make_person, waves, **plan)


def endpoint(**values: Any) -> WebhookEndpoint:
    """An endpoint, made through the service."""
    values = {"name": "chat", "url": URL, "kinds": [], **values}
    return webhooks.save_endpoint(actor=TEST, rights=everything(), values=values)


def messages() -> list[WebhookDelivery]:
    with scope(TEST):
        return list(WebhookDelivery.objects.select_related("event", "evaluation").order_by("pk"))


def kinds() -> list[str]:
    return [one.kind for one in messages()]


# Kinds, signature and time are pure -------------------------------------------------------------------------
def test_everything_that_happens_to_rollouts_waves_lanes_and_gates_has_a_kind():
    for thing, events in (
        ("rollout", states.RolloutEvent),
        ("wave", states.WaveEvent),
        ("lane", states.LaneEvent),
        ("gate", Outcome),
    ):
        assert [str(event) for event in events if (thing, event) not in hooks.KINDS] == []
    assert tuple(Told) == hooks.SLA_KINDS
    assert len(set(hooks.ALL_KINDS)) == len(hooks.KINDS) + len(hooks.SLA_KINDS)
    assert max(map(len, hooks.ALL_KINDS)) <= WebhookDelivery._meta.get_field("kind").max_length


def test_the_signature_is_that_of_the_specification():
    # The example of the specification's own libraries.
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = '{"test": 2432232314}'
    signed = hooks.signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert hooks.spelled(secret) == "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_tries_go_on_for_about_a_day_ever_more_rarely():
    assert [hooks.wait_s(n, 0.5) for n in (1, 2, 3, 8, 9, 10, 1000)] == [5, 15, 45, 10935, 14400, 14400, 14400]
    assert (hooks.wait_s(1, 0), hooks.wait_s(1, 1)) == (4, 6)
    begin = now = datetime(2026, 11, 1, tzinfo=UTC)
    tries = 0
    while now is not None:
        tries += 1
        last, now = now, hooks.next_try(now, tries, 0.5, begin + hooks.GIVE_UP_AFTER)
    assert tries == 13
    assert timedelta(hours=19) < last - begin <= hooks.GIVE_UP_AFTER


@pytest.mark.parametrize(
    "url",
    [
        *("http://a.example/", "ftp://a.example/", "//a.example/", "a.example", "https://", "https:///x", ""),
        *("https://u@a.example/", "https://u:p@a.example/", "https://a.example/#x", "https://a.example\\@b.example/"),
        *("https://a.example:0/", "https://a.example:99999/", "https://a exa.example/", "https://a.example/\n"),
        *("https://ä.example/", "https://a.example/" + "x" * 500, "https://[::1/", "javascript:alert(1)"),
    ],
)
def test_other_addresses_are_not_taken(database, url):
    with pytest.raises(hooks.UrlError):
        hooks.host_of(url, http=False)
    with pytest.raises(Invalid) as caught:
        endpoint(url=url)
    assert caught.value.details.keys() == {"url"}


def test_hosts_and_ports_are_read():
    assert hooks.host_of("https://A.example/x?y=1", http=False) == ("a.example", 443)
    assert hooks.host_of("https://[2001:db8::1]:8443/", http=False) == ("2001:db8::1", 8443)
    assert hooks.host_of("http://localhost/", http=True) == ("localhost", 80)


# The outbox -------------------------------------------------------------------------------------------------
def test_each_event_is_written_with_its_message_and_names_what_it_is_about(play: Play):
    row = endpoint()
    it = play(1, 2).run()
    assert kinds() == [
        *("rollout.planned", "rollout.submitted", "rollout.approved", "rollout.started"),
        "rollout.wave.opened",
    ]
    started = messages()[3]
    assert (started.event.thing, started.event.event, started.rollout_id) == ("rollout", "start", it.rollout.pk)
    body = json.loads(started.body)
    assert body == {
        "type": "rollout.started",
        "version": 1,
        "timestamp": started.event.at.isoformat(),
        "data": {
            "rollout": {
                "id": it.rollout.pk,
                "name": "spring",
                "state": "running",
                "standard": "2026.11-r2",
                "sites": 3,
                "link": f"/rollouts/{it.rollout.pk}/",
            },
            "counts": body["data"]["counts"],
            "reason": "",
            "actor": "job:rollouts",
        },
    }
    assert sum(body["data"]["counts"].values()) == 3
    assert body["data"]["rollout"]["link"] == reverse("rollout", args=[it.rollout.pk])
    opened = json.loads(messages()[4].body)["data"]
    assert opened["wave"] == {"index": 0, "name": "wave 0", "state": "open"}
    for one in messages():
        assert (one.endpoint_id, one.state, one.attempts, one.next_at) == (row.pk, "waiting", 0, one.made_at)
        assert one.give_up_at - one.made_at == timedelta(hours=24)
    assert len({one.message for one in messages()}) == 5


def test_gates_and_failed_sites_are_told(play: Play):
    endpoint(kinds=["rollout.gate.passed", "rollout.site.failed", "rollout.partially_succeeded"])
    it = play(2).run()
    it.fails(0)
    it.applied(1)
    for _ in range(4):
        tick()
    assert it.now().state == "partially_succeeded"
    assert sorted(kinds()) == ["rollout.gate.passed", "rollout.partially_succeeded", "rollout.site.failed"]
    by_kind = {one.kind: one for one in messages()}
    failed = json.loads(by_kind["rollout.site.failed"].body)["data"]
    assert failed["site"] == {"slug": it.sites[0].slug, "name": it.sites[0].name, "state": "failed"}
    assert "health check" in failed["reason"]
    gate = by_kind["rollout.gate.passed"]
    assert gate.evaluation.outcome == "pass"
    assert json.loads(gate.body)["data"]["gate"] == {"outcome": "pass"}


def test_messages_go_to_who_wants_them_with_one_id_for_all(play: Play):
    all_of_it, some = endpoint(name="all"), endpoint(name="some", kinds=["rollout.submitted"])
    off = endpoint(name="off")
    webhooks.switch_endpoint(actor=TEST, rights=everything(), endpoint=off, on=False)
    it = play(1)
    it.do(control.submit)
    found = [(one.endpoint_id, one.kind) for one in messages()]
    assert found == [
        (all_of_it.pk, "rollout.planned"),
        *((one.pk, "rollout.submitted") for one in (all_of_it, some)),
    ]
    assert messages()[1].message == messages()[2].message


def test_what_is_rolled_back_was_never_told(play: Play):
    endpoint()
    it = play(1)
    before = kinds()

    class Fault(Exception):
        pass

    actor, rights = it.author
    with pytest.raises(Fault), scope(actor):
        control.submit(actor=actor, rights=rights, rollout=it.rollout, expect=it.rollout.plan_hash)
        assert RolloutEvent.objects.filter(event="submit").exists()
        assert WebhookDelivery.objects.filter(kind="rollout.submitted").exists()
        raise Fault
    assert kinds() == before
    assert it.now().state == "planned"


def test_without_an_endpoint_that_wants_it_nothing_is_written(play: Play):
    play(1).run()
    endpoint(kinds=["rollout.failed"])
    tick()
    assert messages() == []


def test_a_link_begins_with_where_the_dashboard_is(play: Play, settings):
    settings.DASHBOARD_URL = "https://fleet.example.com"
    endpoint()
    it = play(1)
    data = json.loads(messages()[0].body)["data"]
    assert data["rollout"]["link"] == f"https://fleet.example.com/rollouts/{it.rollout.pk}/"


# Rights -----------------------------------------------------------------------------------------------------
def acts(row: WebhookEndpoint, message: WebhookDelivery) -> list[Callable[..., Any]]:
    """All that can be done to webhooks."""
    return [
        lambda **who: webhooks.save_endpoint(**who, values={"name": "mine", "url": URL}),
        lambda **who: webhooks.save_endpoint(**who, values={"name": "mine"}, endpoint=row),
        lambda **who: webhooks.rotate_secret(**who, endpoint=row),
        lambda **who: webhooks.switch_endpoint(**who, endpoint=row, on=False),
        lambda **who: webhooks.switch_endpoint(**who, endpoint=row, on=True),
        lambda **who: webhooks.send_test(**who, endpoint=row),
        lambda **who: webhooks.redeliver(**who, message=message),
        lambda **who: webhooks.delete_endpoint(**who, endpoint=row),
    ]


def kept() -> list[Any]:
    tables = ("rollouts_webhookendpoint", "rollouts_webhookdelivery", "kit_auditentry")
    return [rows(f"SELECT t::text FROM {table} t ORDER BY 1", using=OWNER) for table in tables]


@pytest.mark.parametrize(
    "member",
    [
        *({"role": role} for role in ("viewer", "operator", "manager")),
        *({"role": role, "provider": True} for role in ("provider_viewer", "provider_operator", "admin")),
        {"role": "admin", "regions": ["DACH"]},
    ],
    ids=str,
)
def test_only_administrators_of_the_whole_fleet_change_webhooks(access, make_provider, member):
    row = endpoint()
    message = webhooks.send_test(actor=TEST, rights=everything(), endpoint=row)
    if member.get("provider"):
        member = {**member, "provider": make_provider()}
    actor, rights = access(**member)
    before = kept()
    for act in acts(row, message):
        with pytest.raises(NotAllowed):
            act(actor=actor, rights=rights)
    with scope(actor), pytest.raises((NotAllowed, NotFound)):
        get_endpoint(scope=actor, rights=rights, pk=row.pk)
    assert kept() == before


def test_rights_without_the_sight_of_the_fleet_do_not_suffice(make_provider):
    """Were the right ever given to a provider's role, webhooks would still not be there for it."""
    row = endpoint()
    message = webhooks.send_test(actor=TEST, rights=everything(), endpoint=row)
    theirs = Scope(name="theirs", providers=frozenset({make_provider().pk}), user_id=1)
    before = kept()
    for act in acts(row, message):
        with pytest.raises(NotFound):
            act(actor=theirs, rights=everything())
    with scope(theirs):
        assert list(endpoints_in(theirs)) == []
        with pytest.raises(NotFound):
            get_endpoint(scope=theirs, rights=everything(), pk=row.pk)
    for model in (WebhookEndpoint, WebhookDelivery):
        with pytest.raises(ProgrammingError, match="permission denied"), scope(theirs):
            model.objects.count()
    assert kept() == before


def test_an_administrator_does_all_of_it_and_the_audit_tells_it(access):
    actor, rights = access("admin")
    who: dict[str, Any] = {"actor": actor, "rights": rights}
    row = webhooks.save_endpoint(**who, values={"name": "chat", "url": URL, "kinds": []})
    webhooks.save_endpoint(**who, values={"kinds": ["rollout.started"]}, endpoint=row)
    webhooks.rotate_secret(**who, endpoint=row)
    message = webhooks.send_test(**who, endpoint=row)
    webhooks.switch_endpoint(**who, endpoint=row, on=False)
    webhooks.switch_endpoint(**who, endpoint=row, on=True)
    webhooks.redeliver(**who, message=message)
    webhooks.delete_endpoint(**who, endpoint=row)
    with scope(TEST):
        found = list(AuditEntry.objects.filter(object_type="webhook").order_by("pk"))
    assert [entry.action for entry in found] == [
        f"webhook.{word}" for word in ("create", "change", "rotate", "test", "off", "on", "redeliver", "delete")
    ]
    assert {(entry.actor, entry.object_name, entry.provider_id) for entry in found} == {(actor.name, "chat", None)}
    assert (found[1].before, found[1].after) == ({"kinds": []}, {"kinds": ["rollout.started"]})
    assert "salt" not in str([(entry.before, entry.after) for entry in found])
    assert messages() == []


# Endpoints --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"name": " "}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"kinds": ["rollout.exploded"]}, "kinds"),
        ({"kinds": "rollout.started"}, "kinds"),
    ],
)
def test_values_that_cannot_be_taken(database, values, wrong):
    with pytest.raises(Invalid) as caught:
        endpoint(**values)
    assert caught.value.details.keys() == {wrong}


def test_names_are_taken_once_and_there_is_an_end_of_them(database, monkeypatch):
    endpoint()
    with pytest.raises(Invalid, match="cannot be taken"):
        endpoint()
    monkeypatch.setattr(webhooks, "MAX_ENDPOINTS", 1)
    with pytest.raises(Conflict, match="at most 1"):
        endpoint(name="second")


def test_secrets_are_stored_nowhere_and_differ(database):
    one, two = endpoint(), endpoint(name="two")
    now = datetime.now(UTC)
    (first,), (second,) = secrets_of(one, now), secrets_of(two, now)
    assert first != second
    assert len(first) == 32
    stored = str(rows("SELECT t::text FROM rollouts_webhookendpoint t", using=OWNER)).encode()
    for secret in (first, second):
        assert base64.b64encode(secret) not in stored
        assert secret.hex().encode() not in stored
    assert hooks.derived_secret(settings.SECRET_KEY, one.salt) == first
    assert hooks.derived_secret("another key", one.salt) != first


def test_after_a_rotation_both_secrets_sign_for_a_day(database):
    row = endpoint()
    now = datetime.now(UTC)
    (first,) = secrets_of(row, now)
    row = webhooks.rotate_secret(actor=TEST, rights=everything(), endpoint=row)
    second, old = secrets_of(row, now)
    assert old == first != second
    assert row.old_until is not None
    assert abs(row.old_until - now - timedelta(hours=24)) < timedelta(minutes=1)
    assert secrets_of(row, row.old_until) == [second]
    row = webhooks.rotate_secret(actor=TEST, rights=everything(), endpoint=row)
    assert secrets_of(row, now)[1:] == [second], "the first is gone"


def test_switching_off_gives_up_what_waits_and_tests_are_refused(database):
    row = endpoint()
    who: dict[str, Any] = {"actor": TEST, "rights": everything()}
    message = webhooks.send_test(**who, endpoint=row)
    off = webhooks.switch_endpoint(**who, endpoint=row, on=False)
    assert (off.is_active, off.off_reason) == (False, "Switched off by job:test.")
    (found,) = messages()
    assert (found.state, found.next_at, found.problem) == ("given_up", None, "The webhook was switched off.")
    for act in (
        lambda: webhooks.send_test(**who, endpoint=row),
        lambda: webhooks.redeliver(**who, message=message),
    ):
        with pytest.raises(Conflict, match="switched off"):
            act()
    on = webhooks.switch_endpoint(**who, endpoint=row, on=True)
    assert (on.is_active, on.off_reason) == (True, "")
    again = webhooks.redeliver(**who, message=message)
    assert (again.state, again.message) == ("waiting", message.message)


def test_old_messages_are_forgotten_and_waiting_ones_are_not(database):
    row = endpoint()
    for _ in range(3):
        webhooks.send_test(actor=TEST, rights=everything(), endpoint=row)
    first, second, third = messages()
    old = "UPDATE rollouts_webhookdelivery SET made_at = now() - interval '31 days' WHERE id = ANY(%s) RETURNING id"
    done = "UPDATE rollouts_webhookdelivery SET state = 'delivered', next_at = NULL WHERE id = ANY(%s) RETURNING id"
    rows(old, [[first.pk, second.pk]], using=OWNER)
    rows(done, [[first.pk, third.pk]], using=OWNER)
    assert prune() == 1
    assert [one.pk for one in messages()] == [second.pk, third.pk]
