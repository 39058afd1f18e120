"""Holds and calendars without a browser: lists, forms, who may, and months in which clocks change."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from django.utils import timezone

from fleet.kit.tenancy import scope
from fleet.rollouts.models import Hold, ProviderCalendar
from fleet.rollouts.present_calendar import Day, month_of
from fleet.rollouts.services import control, holds
from fleet.rollouts.services.ticking import tick
from fleet.rollouts.windows import Calendar, Freeze, Weekly
from tests.conftest import TEST, everything
from tests.database import OWNER, rows
from tests.fleet.rollouts.played import Played

pytestmark = pytest.mark.usefixtures("plain_static", "database")
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def held() -> list[tuple[str, str, str, str]]:
    with scope(TEST):
        found = Hold.objects.order_by("pk").select_related("site", "provider")
        return [
            (
                row.site.slug if row.site else "",
                row.region,
                row.provider.slug if row.provider else "",
                "lifted" if row.lifted_at else "holds",
            )
            for row in found
        ]


def hold(**what: Any) -> Hold:
    until = timezone.now() + timedelta(hours=4)
    return holds.hold(actor=TEST, rights=everything(), reason="stocktaking", until=until, **what)


# Holds --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ({"what": "sites", "sites": "a b"}, [("a", "", "own", "holds"), ("b", "", "other", "holds")]),
        ({"what": "region", "region": "DACH"}, [("", "DACH", "", "holds")]),
        ({"what": "all"}, [("", "", "", "holds")]),
    ],
)
def test_an_operator_holds_sites_regions_and_all(
    signed_in: Any, make_site: Any, make_provider: Any, sent: Any, expected: Any
):
    make_site("a", make_provider("own"))
    make_site("b", make_provider("other"))
    client = signed_in("operator")
    response = client.post("/rollouts/holds/new/", {"lasts": "4 h", "reason": "stocktaking", **sent})
    assert (response.status_code, response["Location"]) == (302, "/rollouts/holds/")
    assert held() == expected
    with scope(TEST):
        lasts = {(row.until - row.made_at) // timedelta(minutes=1) for row in Hold.objects.all()}
    assert lasts <= {239, 240}
    assert b"stocktaking" in client.get("/rollouts/holds/").content


def test_a_provider_holds_its_own_sites_and_itself_and_nothing_else(signed_in: Any, make_site: Any, make_provider: Any):
    own, other = make_provider("own"), make_provider("other")
    make_site("a", own)
    make_site("b", other)
    client = signed_in("provider_operator", provider=own)
    page = client.get("/rollouts/holds/new/")
    assert [value for value, _ in page.context["form"].fields["what"].choices] == ["sites", "region", "provider"]
    common = {"lasts": "1 d", "reason": "stocktaking"}
    for sent in ({"what": "sites", "sites": "a b"}, {"what": "all"}, {"what": "provider", "provider": other.pk}):
        assert client.post("/rollouts/holds/new/", common | sent).status_code == 422
    assert client.post("/rollouts/holds/new/", common | {"what": "region", "region": "DACH"}).status_code == 422
    assert held() == []
    assert client.post("/rollouts/holds/new/", common | {"what": "provider", "provider": own.pk}).status_code == 302
    assert client.post("/rollouts/holds/new/", common | {"what": "sites", "sites": "a"}).status_code == 302
    assert held() == [("", "", "own", "holds"), ("a", "", "own", "holds")]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"lasts": "40 d"}, "lasts"),
        ({"lasts": "soon"}, "lasts"),
        ({"reason": ""}, "reason"),
        ({"sites": ""}, "sites"),
        ({"sites": "a nowhere"}, "__all__"),
    ],
)
def test_what_is_wrong_with_a_hold_stands_at_its_field_and_nothing_is_held(
    signed_in: Any, make_site: Any, sent: Any, field: str
):
    make_site("a")
    given = {"what": "sites", "sites": "a", "lasts": "4 h", "reason": "stocktaking"} | sent
    response = signed_in("operator").post("/rollouts/holds/new/", given)
    assert (response.status_code, list(response.context["form"].errors)) == (422, [field])
    assert held() == []


def test_picked_sites_stand_in_the_form(signed_in: Any, make_site: Any):
    site = make_site("a")
    client = signed_in("operator")
    shown = client.post("/rollouts/holds/new/", {"do": "begin", "pick": [str(site.pk)]})
    assert shown.context["form"]["sites"].value() == "a"
    for query in ("sites=a", "from=map&query=region%3DDACH&sites=", "from=sites&query=q%3Dberlin"):
        assert client.get(f"/rollouts/holds/new/?{query}").context["form"]["sites"].value() == "a", query
    assert held() == []


@pytest.mark.parametrize("role", ["viewer", "provider_viewer"])
def test_who_may_not_hold_neither_holds_nor_lifts(signed_in: Any, make_site: Any, make_provider: Any, role: str):
    own = make_provider("own")
    one = hold(site=make_site("a", own))
    client = signed_in(role, **({"provider": own} if role == "provider_viewer" else {}))
    given = {"what": "sites", "sites": "a", "lasts": "4 h", "reason": "stocktaking"}
    assert client.get("/rollouts/holds/new/").status_code == 403
    assert client.post("/rollouts/holds/new/", given).status_code == 403
    assert client.post(f"/rollouts/holds/{one.pk}/lift/").status_code == 403
    assert client.post(f"/rollouts/holds/{one.pk}/override/", {"reason": "urgent"}).status_code == 403
    page = client.get("/rollouts/holds/")
    assert b"stocktaking" in page.content
    assert b">Lift</button>" not in page.content
    assert held() == [("a", "", "own", "holds")]


def test_a_hold_of_others_is_neither_seen_nor_lifted(signed_in: Any, make_site: Any, make_provider: Any):
    one = hold(site=make_site("b", make_provider("other")))
    client = signed_in("provider_operator", provider=make_provider("own"))
    assert b"stocktaking" not in client.get("/rollouts/holds/?ended=1").content
    for what in ("lift", "override"):
        assert client.post(f"/rollouts/holds/{one.pk}/{what}/", {"reason": "urgent"}).status_code == 404
    assert held() == [("b", "", "other", "holds")]


def test_lifted_it_is_only_among_all_holds(signed_in: Any, make_site: Any):
    one = hold(site=make_site("a"))
    client = signed_in("operator")
    assert client.post(f"/rollouts/holds/{one.pk}/lift/").status_code == 302
    assert b"stocktaking" not in client.get("/rollouts/holds/").content
    assert b"stocktaking" in client.get("/rollouts/holds/?ended=1").content
    client.post(f"/rollouts/holds/{one.pk}/lift/")
    assert b"It has ended already." in client.get("/rollouts/holds/").content


def test_two_people_let_security_pass_a_hold(signed_in: Any, make_site: Any):
    one = hold(site=make_site("a"))
    for _ in range(2):
        signed_in("manager").post(f"/rollouts/holds/{one.pk}/override/", {"reason": "urgent"})
    with scope(TEST):
        assert len(Hold.objects.get().overridden_by) == 2
    assert b"2 of 2 people agree" in signed_in("manager").get("/rollouts/holds/").content


def test_a_long_hold_is_shown_with_its_age_and_with_who_waits(
    signed_in: Any, make_site: Any, make_person: Any, make_provider: Any
):
    own = make_provider("own")
    it = Played(make_site, make_person, (2,), provider=own)
    one = hold(provider=own)
    rows("UPDATE rollouts_hold SET made_at = now() - interval '80 hours' WHERE id = %s", [one.pk], using=OWNER)
    it.do(control.submit)
    it.do(control.approve, it.approver)
    tick()
    tick()
    assert it.states() == "deferred deferred"
    text = signed_in("operator").get("/rollouts/holds/").content.decode()
    assert "longer than 72 h" in text
    assert "2 sites of 1 rollout wait for it" in text
    rows("UPDATE rollouts_sitestep SET escalated = true", using=OWNER)
    assert "<b>2 for too long</b>" in signed_in("operator").get("/rollouts/holds/").content.decode()


# Calendars ----------------------------------------------------------------------------------------------------
NIGHTS = {"o-0-days": ["0", "1", "2", "3", "4"], "o-0-begin": "22:00", "o-0-end": "06:00"}
ROWS = {"o-TOTAL_FORMS": "1", "o-INITIAL_FORMS": "0", "f-TOTAL_FORMS": "1", "f-INITIAL_FORMS": "0"}
YEAR_END = {"f-0-begin": "2026-12-20T00:00", "f-0-end": "2027-01-06T00:00", "f-0-reason": "year's end"}


def days(calendar: Calendar, month: int, zone: str = "Europe/Berlin") -> dict[int, Day]:
    weeks = month_of(calendar, zone, 2026, month, NOW)
    return {day.date.day: day for week in weeks for day in week if not day.is_other}


def test_an_administrator_sets_a_calendar_and_everybody_sees_it(signed_in: Any, make_provider: Any, make_site: Any):
    own = make_provider("own")
    make_site("a", own)
    client = signed_in("admin")
    mark = client.get("/rollouts/calendars/own/edit/").context["mark"]
    given = {**ROWS, **NIGHTS, **YEAR_END, "mark": mark, "do": "save"}
    response = client.post("/rollouts/calendars/own/edit/", given)
    assert (response.status_code, response["Location"]) == (302, "/rollouts/calendars/?provider=own")
    with scope(TEST):
        kept = ProviderCalendar.objects.get().calendar
    assert kept["windows"] == [{"days": [0, 1, 2, 3, 4], "begin": "22:00:00", "end": "06:00:00"}]
    assert kept["freezes"][0]["reason"] == "year's end"
    text = signed_in("provider_viewer", provider=own).get("/rollouts/calendars/?month=2026-12").content.decode()
    assert "Mon to Fri 22:00 to 06:00." in text
    assert "year&#x27;s end" in text
    again = client.get("/rollouts/calendars/own/edit/")
    assert [form["reason"].value() for form in again.context["freezes"]] == ["year's end"]
    assert client.post("/rollouts/calendars/own/edit/", given).status_code == 409


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"o-0-end": ""}, b"Until when?"),
        ({"o-0-days": []}, b"Say on which days."),
        ({"f-0-end": "2026-12-01T00:00"}, b"It ends before it begins."),
        ({"f-0-begin": "", "f-0-end": "2026-12-01T00:00"}, b"From when?"),
        ({"f-0-begin": "0001-01-01T00:00"}, b"between the years"),
    ],
)
def test_a_calendar_that_is_none_is_told(signed_in: Any, make_provider: Any, changes: Any, words: bytes):
    make_provider("own")
    given = {**ROWS, **NIGHTS, **YEAR_END, "mark": "none", "do": "save"} | changes
    response = signed_in("admin").post("/rollouts/calendars/own/edit/", given)
    assert (response.status_code, words in response.content) == (422, True)
    with scope(TEST):
        assert not ProviderCalendar.objects.exists()


def test_rows_are_added_and_taken_out_without_javascript(signed_in: Any, make_provider: Any):
    make_provider("own")
    client = signed_in("admin")
    for do, windows, freezes in (("windows-add", 2, 1), ("freezes-add", 1, 2), ("windows-remove:0", 0, 1)):
        page = client.post("/rollouts/calendars/own/edit/", {**ROWS, **NIGHTS, "mark": "none", "do": do})
        assert (len(page.context["windows"].forms), len(page.context["freezes"].forms)) == (windows, freezes)


@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "provider_operator"])
def test_only_administrators_change_calendars(signed_in: Any, make_provider: Any, role: str):
    own = make_provider("own")
    client = signed_in(role, **({"provider": own} if role.startswith("provider") else {}))
    assert client.get("/rollouts/calendars/own/edit/").status_code == 403
    assert client.post("/rollouts/calendars/own/edit/", {**ROWS, **NIGHTS, "do": "save"}).status_code == 403
    assert client.get("/rollouts/calendars/").status_code == 200
    with scope(TEST):
        assert not ProviderCalendar.objects.exists()


def test_a_calendar_of_others_is_not_there(signed_in: Any, make_provider: Any):
    make_provider("other", name="Other Hosting")
    client = signed_in("provider_operator", provider=make_provider("own"))
    assert client.get("/rollouts/calendars/other/edit/").status_code == 404
    assert b"Other Hosting" not in client.get("/rollouts/calendars/?provider=other").content


@pytest.mark.parametrize("query", ["month=2026-13", "month=x", "month=9999-99", "zone=Mars/Base", "provider=no"])
def test_a_choice_that_is_none_is_the_usual_one(signed_in: Any, make_site: Any, query: str):
    make_site("a")
    page = signed_in("viewer").get(f"/rollouts/calendars/?{query}")
    assert (page.status_code, page.context["zone"]) == (200, "Europe/Berlin")


def test_a_month_is_right_on_the_days_when_clocks_change():
    nights = Calendar(windows=(Weekly((5, 6), time(22), time(6)),))
    march, october = days(nights, 3), days(nights, 10)
    assert (march[29].hours, october[25].hours, march[28].hours) == ("23 h", "25 h", "")
    assert march[29].spans == ("00:00 to 06:00", "22:00 to 24:00")
    # Five of 23 hours, and seven of 25.
    assert march[29].bars[0] == (0.0, round(5 / 23 * 1000, 1))
    assert october[25].bars[0] == (0.0, round(7 / 25 * 1000, 1))
    assert march[30].spans == ("00:00 to 06:00",)
    assert march[24].spans == ()


def test_a_freeze_wins_over_windows_and_over_none():
    freeze = Freeze(datetime.fromisoformat("2026-11-10T12:00"), datetime.fromisoformat("2026-11-12T00:00"), "fair")
    always = days(Calendar(freezes=(freeze,)), 11)
    assert [(always[n].spans, always[n].frozen) for n in (9, 10, 11, 12)] == [
        (("all day",), ""),
        (("00:00 to 12:00",), "fair"),
        ((), "fair"),
        (("all day",), ""),
    ]
    for_ever = days(Calendar(freezes=(Freeze(datetime.fromisoformat("2026-11-10T00:00"), None, ""),)), 12)
    assert {day.frozen for day in for_ever.values()} == {"frozen"}
