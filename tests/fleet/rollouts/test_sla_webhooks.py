"""Webhooks of SLAs: outages, disputes, budgets and reports, each told once, each of one provider alone."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleet.kit.tenancy import scope
from fleet.rollouts.models import WebhookDelivery, WebhookEndpoint
from fleet.rollouts.services import telling, webhooks
from fleet.rollouts.services.telling import tell
from slas.models import Incident, OutboxEvent
from slas.services import budgets
from slas.services.deciding import decide_dispute
from slas.services.deriving import derive_due
from slas.services.disputes import attach_file, file_dispute, withdraw_dispute
from slas.services.incidents import correct_cause
from slas.services.report_making import keep_reports, make_wanted
from tests.conftest import everything
from tests.database import OWNER, rows, value
from tests.slas.factories import TEST, make_contract, segment, states, tenures
from tests.slas.test_reports import LAST, ask, promised  # noqa: F401  (a fixture)

T0 = datetime(2026, 11, 2, tzinfo=UTC)
H = timedelta(hours=1)


@pytest.fixture
def hook(database: Any, settings: Any) -> WebhookEndpoint:
    settings.DASHBOARD_URL = "https://fleet.example.com"
    return endpoint()


def endpoint(name: str = "chat", *kinds: str) -> WebhookEndpoint:
    values = {"name": name, "url": "https://hooks.example.com/in", "kinds": list(kinds)}
    return webhooks.save_endpoint(actor=TEST, rights=everything(), values=values)


def told() -> list[tuple[str, dict[str, Any]]]:
    """Kind and data of each message that was not looked at before."""
    tell()
    with scope(TEST):
        found = [(row.kind, json.loads(row.body)["data"]) for row in WebhookDelivery.objects.order_by("id")]
        WebhookDelivery.objects.all().delete()
    return found


def derive() -> list[tuple[str, dict[str, Any]]]:
    while derive_due():
        pass
    return told()


def outage(site: Any, *changes: Any) -> list[tuple[str, dict[str, Any]]]:
    states(site, "availability", (T0 - 9 * H, "up"), *changes)
    return derive()


@pytest.fixture
def site(make_site: Any, make_provider: Any) -> Any:
    provider = make_provider("nord", name="Nord Hosting")
    made = make_site("own", provider, name="Own")
    tenures(made, (provider, T0 - 99 * H, None))
    return made


def incident() -> Incident:
    with scope(TEST):
        return Incident.objects.order_by("id")[0]


# Outages ----------------------------------------------------------------------------------------------------
def test_an_outage_is_opened_ended_and_corrected(hook, site):
    ((kind, data),) = outage(site, (T0, "down"))
    assert kind == "sla.outage.opened"
    assert data == {
        "outage": {
            "id": incident().pk,
            "kind": "down",
            "begins": "2026-11-02T00:00:00+00:00",
            "ends": None,
            "stands": True,
            "cause": "unknown",
            "charged_to": "nobody",
        },
        "site": {"slug": "own", "name": "Own"},
        "provider": {"slug": "nord", "name": "Nord Hosting"},
        "reason": "",
        "actor": "job:outages",
        "link": f"https://fleet.example.com/slas/outages/{incident().pk}/",
    }
    ((kind, data),) = outage(site, (T0, "down"), (T0 + H, "up"))
    assert (kind, data["outage"]["ends"]) == ("sla.outage.ended", "2026-11-02T01:00:00+00:00")
    # A journal says later that it began sooner, and then that it never was.
    ((kind, data),) = outage(site, (T0 - H, "down"), (T0 + H, "up"))
    assert (kind, data["outage"]["begins"]) == ("sla.outage.corrected", "2026-11-01T23:00:00+00:00")
    assert data["outage"]["stands"]
    ((kind, data),) = outage(site)
    assert (kind, data["outage"]["stands"]) == ("sla.outage.corrected", False)
    assert told() == []


def test_one_that_was_only_learnt_of_afterwards_is_told_as_over(hook, site):
    ((kind, data),) = outage(site, (T0, "down"), (T0 + H, "up"))
    assert (kind, data["outage"]["ends"]) == ("sla.outage.ended", "2026-11-02T01:00:00+00:00")


def test_a_person_corrects_the_cause(hook, site, access):
    outage(site, (T0, "down"), (T0 + H, "up"))
    manager = access("manager")
    correct_cause(actor=manager[0], rights=manager[1], incident=incident(), cause="power", reason="it was dark")
    ((kind, data),) = told()
    assert (kind, data["reason"], data["actor"]) == ("sla.outage.corrected", "it was dark", manager[0].name)
    assert (data["outage"]["cause"], data["outage"]["charged_to"]) == ("power", "provider")


# Disputes ---------------------------------------------------------------------------------------------------
def test_disputes_are_told_although_the_provider_sees_no_webhook(hook, site, access):
    outage(site, (T0, "down"), (T0 + H, "up"))
    provider, manager = access("provider_operator", provider=site.provider), access("manager")
    who = {"actor": provider[0], "rights": provider[1]}
    claim = file_dispute(**who, incident=incident(), cause="third_party", text="a digger")
    attach_file(**who, dispute=claim, name="a.txt", body=b"a digger")
    ((kind, data),) = told()
    assert (kind, data["dispute"]["state"], data["reason"]) == ("sla.dispute.filed", "open", "a digger")
    assert data["link"] == f"https://fleet.example.com/slas/disputes/{claim.pk}/"
    assert data["provider"]["slug"] == "nord"
    decide_dispute(actor=manager[0], rights=manager[1], dispute=claim, decision="accepted", reason="so it was")
    found = dict(told())
    assert set(found) == {"sla.dispute.decided", "sla.outage.corrected"}
    decision = found["sla.dispute.decided"]
    assert (decision["dispute"]["state"], decision["reason"]) == ("accepted", "so it was")
    again = file_dispute(**who, incident=incident(), cause="workload", text="it was yours")
    withdraw_dispute(**who, dispute=again, reason="we erred")
    assert [kind for kind, _ in told()] == ["sla.dispute.filed", "sla.dispute.withdrawn"]


def test_what_is_refused_was_never_told(hook, site, access):
    outage(site, (T0, "down"), (T0 + H, "up"))
    provider = access("provider_operator", provider=site.provider)
    with pytest.raises(Exception, match="values cannot be taken"):
        file_dispute(actor=provider[0], rights=provider[1], incident=incident(), cause="power", text="x")
    assert told() == []


# Budgets and reports ----------------------------------------------------------------------------------------
def test_a_budget_that_burns_and_is_calm_again(hook, site, monkeypatch):
    now = datetime(2026, 11, 10, tzinfo=UTC)
    outage(site, (now - 4 * H, "down"))
    version = make_contract(segment(site.provider))
    rows("UPDATE slas_contractversion SET made_at = %s WHERE id = %s", [T0 - 48 * H, version.pk], using=OWNER)
    monkeypatch.setattr(budgets, "database_now", lambda: now)
    assert budgets.work_out_budgets() > 0
    burning = told()
    assert {kind for kind, _ in burning} == {"sla.budget.burning"}
    data = burning[0][1]
    alert = data["alert"]
    assert (alert["contract"], alert["measure"], data["site"]["slug"]) == ("shops", "availability", "own")
    assert data["alert"]["rate"] >= data["alert"]["threshold"]
    assert data["link"] == "https://fleet.example.com/slas/contracts/shops/#budget"
    assert budgets.work_out_budgets() == len(burning)
    assert told() == []
    monkeypatch.setattr(budgets, "database_now", lambda: now + timedelta(days=9))
    states(site, "availability", (T0 - 9 * H, "up"), (now - 4 * H, "down"), (now, "up"))
    budgets.work_out_budgets()
    assert [kind for kind, _ in told()] == ["sla.budget.calm"] * len(burning)


def test_reports_are_told_when_final_and_when_restated(hook, promised, settings):  # noqa: F811
    told()
    settings.REPORT_GRACE_H = 8000
    report = ask()
    make_wanted()
    assert told() == []  # provisional
    settings.REPORT_GRACE_H = 0
    keep_reports()
    make_wanted()
    bad, good = told()
    assert (bad[0], good[0]) == ("sla.report.final", "sla.report.final")
    assert (bad[1]["provider"]["slug"], good[1]["provider"]["slug"]) == ("bad", "good")
    said = bad[1]["report"]
    assert (said["verdict"], said["period"], said["contract"]) == ("MISSED", LAST, "shops")
    assert good[1]["report"]["credits"] == []
    assert bad[1]["link"] == f"https://fleet.example.com/slas/reports/{report.pk}/?revision={said['revision']}"
    assert "Bad" not in json.dumps(good[1])


# Told once, and only to who wants it ------------------------------------------------------------------------
def test_each_endpoint_hears_of_its_kinds_alone(hook, site):
    endpoint("tickets", "sla.dispute.filed")
    endpoint("board", "sla.outage.opened")
    states(site, "availability", (T0 - 9 * H, "up"), (T0, "down"))
    derive_due()
    assert tell() == 1
    with scope(TEST):
        found = list(WebhookDelivery.objects.order_by("endpoint__name").values_list("endpoint__name", "message"))
    assert [name for name, _ in found] == ["board", "chat"]
    assert len({message for _, message in found}) == 1


def test_without_an_endpoint_nothing_stays(database, site):
    states(site, "availability", (T0 - 9 * H, "up"), (T0, "down"))
    derive_due()
    assert value("SELECT count(*) FROM slas_outboxevent", using=OWNER) == 1
    assert tell() == 1
    assert value("SELECT count(*) FROM slas_outboxevent", using=OWNER) == 0
    assert value("SELECT count(*) FROM rollouts_webhookdelivery", using=OWNER) == 0


def test_a_teller_that_fails_tells_it_the_next_time(hook, site, monkeypatch):
    states(site, "availability", (T0 - 9 * H, "up"), (T0, "down"))
    derive_due()
    with monkeypatch.context() as broken:
        broken.setattr(telling, "text_of", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tell()
    assert [kind for kind, _ in told()] == ["sla.outage.opened"]


def test_two_tellers_tell_it_once(hook, site):
    states(site, "availability", (T0 - 9 * H, "up"), (T0, "down"))
    derive_due()
    with scope(telling.WEBHOOKS):
        locked = OutboxEvent.objects.select_for_update().get()
        assert locked.kind == "sla.outage.opened"
        from concurrent.futures import ThreadPoolExecutor

        from django.db import connections

        def other() -> int:
            try:
                return tell()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(other).result() == 0
    assert tell() == 1
