"""Maintenance: who asks, who agrees, what counts, and until when."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fleet.kit.errors import Conflict, DomainError, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from slas.models import Finding, Window, WindowSite
from slas.selectors.upkeep import get_window, windows_between, windows_in
from slas.services.deriving import derive_due
from slas.services.upkeep import cancel_window, decide_window, request_window
from slas.spans import length
from slas.terms import Upkeep
from slas.upkeep import HOUR_MS, Asked, cap_periods, counts, honoured, ms
from tests.database import OWNER, rows
from tests.slas.factories import TEST, make_contract, segment, states

H = HOUR_MS
SOON = datetime.now(UTC) + timedelta(days=3)


def upkeep(notice_h: int = 0, cap_h: int | None = None, per: str = "month") -> Upkeep:
    return Upkeep("excluded", Decimal(notice_h), None if cap_h is None else Decimal(cap_h), per)


def asked(begin_h: float, end_h: float, *, notice_h: float = 100, late_h: float = -1, excepted: bool = False) -> Asked:
    begin = int(begin_h * H)
    return Asked(begin, int(end_h * H), begin - int(notice_h * H), begin + int(late_h * H), excepted)


# What counts, pure ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("window", "notice_h", "is_counted"),
    [
        (asked(10, 12), 0, True),
        (asked(10, 12, notice_h=72), 72, True),
        (asked(10, 12, notice_h=71.99), 72, False),
        (asked(10, 12, late_h=0), 0, True),
        (asked(10, 12, late_h=0.01), 0, False),
        (asked(10, 12, late_h=5, notice_h=0, excepted=True), 72, True),
    ],
)
def test_what_was_agreed_on_in_time_counts(window, notice_h, is_counted):
    assert counts(window, upkeep(notice_h)) == is_counted


def test_windows_count_in_order_until_the_cap_is_used_up():
    month = [(0, 100 * H), (100 * H, 200 * H)]
    windows = [asked(50, 53), asked(10, 13), asked(52, 60), asked(99, 102)]
    assert honoured(windows, upkeep(cap_h=8), None, month) == [
        (10 * H, 13 * H),
        (50 * H, 55 * H),
        (100 * H, 102 * H),
    ]
    assert honoured(reversed(windows), upkeep(cap_h=8), None, month) == honoured(windows, upkeep(cap_h=8), None, month)
    assert length(honoured(windows, upkeep(), None, month)) == 16 * H
    assert honoured(windows, upkeep(cap_h=0), None, month) == []


def test_only_service_hours_use_up_the_cap():
    hours = [(0, 12 * H), (24 * H, 36 * H)]
    assert honoured([asked(10, 30)], upkeep(cap_h=5), hours, [(0, 100 * H)]) == [(10 * H, 12 * H), (24 * H, 27 * H)]


def test_the_periods_of_a_cap_are_whole_and_of_the_contracts_zone():
    begin, end = datetime(2026, 10, 20, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC)
    months = cap_periods(upkeep(), "Europe/Berlin", begin, end)
    assert months == [
        (ms(datetime(2026, 9, 30, 22, tzinfo=UTC)), ms(datetime(2026, 10, 31, 23, tzinfo=UTC))),
        (ms(datetime(2026, 10, 31, 23, tzinfo=UTC)), ms(datetime(2026, 11, 30, 23, tzinfo=UTC))),
    ]
    (quarter,) = cap_periods(upkeep(per="quarter"), "UTC", begin, end)
    assert quarter == (ms(datetime(2026, 10, 1, tzinfo=UTC)), ms(datetime(2027, 1, 1, tzinfo=UTC)))
    (year,) = cap_periods(upkeep(per="year"), "UTC", begin, end)
    assert year == (ms(datetime(2026, 1, 1, tzinfo=UTC)), ms(datetime(2027, 1, 1, tzinfo=UTC)))


# Asking and agreeing ----------------------------------------------------------------------------------------
@pytest.fixture
def nord(make_provider: Any) -> Any:
    return make_provider("nord")


@pytest.fixture
def site(make_site: Any, nord: Any) -> Any:
    return make_site("own", nord, region="DACH", labels={"tier": "1"})


def ask(who: Any, **values: Any) -> Window:
    actor, rights = who
    defaults: dict[str, Any] = {
        "sites": ["own"],
        "title": "new fans",
        "begins": SOON,
        "ends": SOON + timedelta(hours=2),
    }
    return request_window(actor=actor, rights=rights, **{**defaults, **values})


def decide(who: Any, window: Window, approve: bool = True, reason: str = "") -> Window:
    return decide_window(actor=who[0], rights=who[1], window=window, approve=approve, reason=reason)


def begun(window: Window, hours: float = 1) -> None:
    rows(
        "UPDATE slas_window SET begins = now() - make_interval(secs => %s), requested_at = now() - interval '90 days'",
        [hours * 3600],
        using=OWNER,
    )
    window.refresh_from_db(using=OWNER)


def test_a_provider_asks_and_a_manager_agrees(site, nord, access):
    provider, manager = access("provider_operator", provider=nord), access("manager")
    window = ask(provider, note="two hours at most")
    assert (window.side, window.state, window.provider_id) == ("provider", "requested", nord.pk)
    made = decide(manager, window)
    assert (made.state, made.decided_name, made.decided_reason) == ("approved", manager[0].name, "")
    with pytest.raises(Conflict, match="approved already"):
        decide(manager, window)
    with scope(TEST):
        assert list(WindowSite.objects.values_list("site_id", "provider_id")) == [(site.pk, nord.pk)]
        audited = AuditEntry.objects.filter(object_type="maintenance").order_by("id")
        assert [(row.action, row.provider_id) for row in audited] == [
            ("maintenance.request", nord.pk),
            ("maintenance.approved", nord.pk),
        ]
        assert [row.pk for row in windows_between(TEST, SOON, SOON + timedelta(minutes=1))] == [window.pk]


def test_the_operator_asks_and_the_provider_agrees(site, nord, access):
    operator, provider = access("operator"), access("provider_operator", provider=nord)
    window = ask(operator)
    assert window.side == "operator"
    for other in (operator, access("manager")):
        with pytest.raises(NotAllowed):
            decide(other, window)
    assert decide(provider, window, approve=False, reason="nobody is there").state == "refused"


def test_nobody_agrees_to_what_their_own_side_asks_for(site, nord, access):
    provider = access("provider_operator", provider=nord)
    window = ask(provider)
    for other in (provider, access("provider_operator", provider=nord), access("operator")):
        with pytest.raises(NotAllowed):
            decide(other, window)
    admin = access("admin")
    own = ask(admin)
    with pytest.raises(NotAllowed):
        decide(admin, own)
    with scope(TEST):
        assert set(Window.objects.values_list("state", flat=True)) == {"requested"}


@pytest.mark.parametrize(
    ("role", "limits", "error"),
    [
        ("viewer", {}, NotAllowed),
        ("provider_viewer", {"provider": "nord"}, NotAllowed),
        ("provider_operator", {"provider": "sued"}, NotFound),
        ("operator", {"regions": ["Iberia"]}, NotFound),
        ("manager", {"provider": "sued"}, NotFound),
    ],
)
def test_a_stranger_is_refused_and_changes_nothing(site, nord, access, make_provider, role, limits, error):
    if "provider" in limits:
        limits = {"provider": nord if limits["provider"] == "nord" else make_provider("sued")}
    who = access(role, **limits)
    window = ask(access("provider_operator", provider=nord))
    with pytest.raises(error):
        ask(who)
    with pytest.raises(error):
        decide(who, window)
    with pytest.raises(error):
        cancel_window(actor=who[0], rights=who[1], window=window, reason="just so")
    with scope(TEST):
        assert list(Window.objects.values_list("state", flat=True)) == ["requested"]
    if error is NotFound:
        with scope(who[0]):
            assert list(windows_in(who[0])) == []
            with pytest.raises(NotFound):
                get_window(scope=who[0], pk=window.pk)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"begins": datetime.now(UTC) - timedelta(minutes=1)}, {"begins"}),
        ({"ends": SOON}, {"ends"}),
        ({"ends": SOON + timedelta(days=15)}, {"ends"}),
        ({"begins": datetime(2100, 1, 1)}, {"begins"}),  # noqa: DTZ001  (it is refused for that)
        ({"title": " "}, {"title"}),
        ({"title": "x" * 121}, {"title"}),
        ({"sites": []}, {"sites"}),
    ],
)
def test_what_cannot_be_asked_for_is_refused_and_nothing_is_kept(site, nord, access, values, fields):
    with pytest.raises(Invalid) as error:
        ask(access("provider_operator", provider=nord), **values)
    assert set(error.value.details) == fields
    with scope(TEST):
        assert Window.objects.count() == 0


def test_a_window_is_for_one_provider_and_for_sites_that_one_sees(site, make_site, make_provider, nord, access):
    make_site("theirs", make_provider("sued"))
    with pytest.raises(Invalid):
        ask(access("operator"), sites=["own", "theirs"])
    with pytest.raises(NotFound):
        ask(access("provider_operator", provider=nord), sites=["own", "theirs"])


def test_short_notice_and_a_late_approval_want_a_reason(site, nord, access):
    make_contract(segment("nord", begins="2020-01-01T00:00", maintenance={"notice_h": "96"}))
    provider, manager = access("provider_operator", provider=nord), access("manager")
    window = ask(provider)
    with pytest.raises(Invalid, match="96 hours of notice"):
        decide(manager, window)
    assert decide(manager, window, reason="the fan is on fire").decided_reason == "the fan is on fire"
    late = ask(provider, begins=SOON + timedelta(days=9), ends=SOON + timedelta(days=10))
    begun(late)
    with pytest.raises(Invalid, match="has begun"):
        decide(manager, late)
    made = decide(manager, late, reason="it was said by phone")
    assert (made.state, made.decided_name) == ("approved", manager[0].name)


def test_a_window_is_taken_back_by_who_asked_and_only_before_it_begins(site, nord, access):
    provider, manager = access("provider_operator", provider=nord), access("manager")
    window = decide(manager, ask(provider))
    with pytest.raises(NotAllowed):
        cancel_window(actor=manager[0], rights=manager[1], window=window, reason="not now")
    begun(window)
    with pytest.raises(Conflict, match="has begun"):
        cancel_window(actor=provider[0], rights=provider[1], window=window, reason="not now")
    other = ask(provider, begins=SOON + timedelta(days=1), ends=SOON + timedelta(days=2))
    assert cancel_window(actor=provider[0], rights=provider[1], window=other, reason="not now").state == "cancelled"
    with pytest.raises(DomainError):
        decide(manager, other)


def test_an_outage_in_maintenance_that_is_agreed_on_later_is_judged_anew(site, nord, access):
    provider, manager = access("provider_operator", provider=nord), access("manager")
    window = ask(provider)
    begun(window)
    states(site, "availability", (datetime.now(UTC) - timedelta(minutes=30), "down"))
    derive_due()
    with scope(TEST):
        assert Finding.objects.count() == 0
    decide(manager, window, reason="it was said by phone")
    derive_due()
    with scope(TEST):
        (found,) = Finding.objects.all()
        assert (found.cause, found.charged_to, found.proof) == ("maintenance", "provider", {"window": window.pk})
