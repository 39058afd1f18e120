"""Disputes: who files, who decides, what comes of it in the figures, and what stays of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, ProgrammingError, transaction

from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid, NotAllowed, NotFound
from fleet.kit.models import AuditEntry
from fleet.kit.tenancy import scope
from slas.attachments import MOST_BYTES, AttachmentError, kind_of, safe_name
from slas.models import Adjustment, Dispute, DisputeFile, DisputeStep, Finding, Incident
from slas.selectors.disputes import disputes_in, get_dispute
from slas.selectors.figures import figures_of
from slas.services.deciding import decide_dispute
from slas.services.deriving import derive_due
from slas.services.disputes import MOST_CLAIMS, attach_file, file_dispute, withdraw_dispute
from slas.services.scorecards import keep_scorecards
from tests.database import OWNER, rows
from tests.slas.factories import DECEMBER, NOVEMBER, TEST, make_contract, segment, states, tenures

pytestmark = pytest.mark.usefixtures("database")
H = 3_600_000
LATER = datetime(2100, 1, 1, tzinfo=UTC)
PDF = b"%PDF-1.7 a fuse"


def at(hours: float) -> datetime:
    return NOVEMBER + timedelta(hours=hours)


@pytest.fixture
def nord(make_provider: Any) -> Any:
    return make_provider("nord")


@pytest.fixture
def incident(make_site: Any, nord: Any) -> Incident:
    """Down from the tenth hour of November to the fourteenth."""
    site = make_site("own", nord, region="DACH", labels={"tier": "1"})
    tenures(site, (nord, datetime(2020, 1, 1, tzinfo=UTC), None))
    states(site, "availability", (datetime(2025, 1, 1, tzinfo=UTC), "up"), (at(10), "down"), (at(14), "up"))
    derive_due()
    with scope(TEST):
        return Incident.objects.get(site=site)


@pytest.fixture
def provider(access: Any, nord: Any) -> Any:
    return access("provider_operator", provider=nord)


@pytest.fixture
def manager(access: Any) -> Any:
    return access("manager")


def filed(by: Any, incident: Incident, **values: Any) -> Dispute:
    given = {"cause": "third_party", "text": "an excavator cut the cable", **values}
    return file_dispute(actor=by[0], rights=by[1], incident=incident, **given)


def decided(by: Any, dispute: Dispute, decision: str = "accepted", **values: Any) -> Dispute:
    given = {"decision": decision, "reason": "we have seen it", **values}
    return decide_dispute(actor=by[0], rights=by[1], dispute=dispute, **given)


def counted(version: Any, as_of: datetime = LATER) -> tuple[int, int]:
    """Milliseconds down and excluded in November."""
    with scope(TEST):
        (found,) = figures_of(version.contract, NOVEMBER, DECEMBER, as_of).results
    return found.totals.down_ms, found.totals.excluded_ms


# What comes of it -------------------------------------------------------------------------------------------
def test_an_accepted_dispute_changes_the_month_by_exactly_its_seconds(incident, provider, manager):
    version = make_contract(segment("nord"))
    assert counted(version) == (4 * H, 0)
    dispute = filed(provider, incident)
    assert counted(version) == (4 * H, 0)
    before = database_now()
    decided(manager, dispute)
    assert counted(version) == (0, 4 * H)
    assert counted(version, before) == (4 * H, 0)  # as it was known then
    with scope(TEST):
        (fact,) = Adjustment.objects.all()
        assert (fact.valid_from, fact.valid_to, fact.charged_to) == (at(10), at(14), "third_party")
        (why,) = Finding.objects.filter(is_correction=True)
        assert (why.cause, why.proof, why.reason) == (
            *("third_party", {"dispute": dispute.pk}),
            f"Dispute {dispute.pk}: we have seen it",
        )


def test_a_part_that_is_granted_is_excluded_and_the_cause_of_the_rest_stays(incident, provider, manager):
    version = make_contract(segment("nord"))
    dispute = filed(provider, incident)
    decided(manager, dispute, "adjusted", begins=at(11), ends=at(11.5), cause="operator_change")
    assert counted(version) == (4 * H - H // 2, H // 2)
    with scope(TEST):
        assert Finding.objects.filter(is_correction=True).count() == 0
        assert [(step.kind, step.side) for step in DisputeStep.objects.order_by("id")] == [
            ("filed", "provider"),
            ("adjusted", "operator"),
        ]
        assert Dispute.objects.get().state == "adjusted"


def test_a_part_that_is_granted_makes_scorecards_due(incident, provider, manager):
    make_contract(segment("nord"))
    keep_scorecards()
    for table, column in (("slas_scorecard", "as_of"), ("slas_contractversion", "made_at")):
        rows(f"UPDATE {table} SET {column} = {column} - interval '6 minutes'", using=OWNER)
    assert keep_scorecards() == 0
    dispute = filed(provider, incident)
    decided(manager, dispute, "adjusted", begins=at(11), ends=at(11.5), cause="operator_change")
    assert keep_scorecards() > 0


def test_a_rejected_or_withdrawn_one_changes_no_figure(incident, provider, manager):
    version = make_contract(segment("nord"))
    decided(manager, filed(provider, incident), "rejected")
    withdraw_dispute(actor=provider[0], rights=provider[1], dispute=filed(provider, incident))
    assert counted(version) == (4 * H, 0)
    with scope(TEST):
        assert sorted(Dispute.objects.values_list("state", flat=True)) == ["rejected", "withdrawn"]
        audited = AuditEntry.objects.filter(object_type="dispute").order_by("id").values_list("action", flat=True)
        assert list(audited) == ["dispute.filed", "dispute.rejected", "dispute.filed", "dispute.withdrawn"]


def test_an_own_cause_corrects_and_grants_nothing(incident, provider, manager):
    version = make_contract(segment("nord"))
    dispute = filed(provider, incident)
    with pytest.raises(Invalid):
        decided(manager, dispute, "adjusted", cause="hardware", ends=at(11))
    decided(manager, dispute, "adjusted", cause="hardware")
    assert counted(version) == (4 * H, 0)
    with scope(TEST):
        assert Adjustment.objects.count() == 0
        assert Finding.objects.get(is_correction=True).cause == "hardware"


# Who may ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("role", ["viewer", "operator", "manager", "admin"])
def test_nobody_files_for_a_provider(incident, access, role):
    with pytest.raises(NotAllowed):
        filed(access(role), incident)
    with scope(TEST):
        assert Dispute.objects.count() == 0


def test_a_providers_viewer_and_another_provider_file_nothing(incident, access, nord, make_provider):
    with pytest.raises(NotAllowed):
        filed(access("provider_viewer", provider=nord), incident)
    with pytest.raises(NotFound):
        filed(access("provider_operator", provider=make_provider("sued")), incident)
    with scope(TEST):
        assert Dispute.objects.count() == 0


@pytest.mark.parametrize(
    ("role", "limits", "error"),
    [
        ("viewer", {}, NotAllowed),
        ("operator", {}, NotAllowed),
        ("provider_operator", {"own": True}, NotAllowed),
        ("manager", {"regions": ["Iberia"]}, NotFound),
        ("manager", {"other": True}, NotFound),
    ],
)
def test_who_may_not_decide_changes_nothing(incident, provider, access, nord, make_provider, role, limits, error):
    dispute = filed(provider, incident)
    if limits.pop("own", False):
        limits = {"provider": nord}
    if limits.pop("other", False):
        limits = {"provider": make_provider("sued")}
    who = access(role, **limits)
    with pytest.raises(error):
        decided(who, dispute)
    if error is NotFound:
        with scope(who[0]):
            assert list(disputes_in(who[0])) == []
            with pytest.raises(NotFound):
                get_dispute(scope=who[0], pk=dispute.pk)
    with scope(TEST):
        assert Dispute.objects.get().state == "open"
        assert Adjustment.objects.count() == 0


@pytest.mark.parametrize("limits", [{"regions": ["DACH"]}, {"labels": {"tier": "1"}}, {"own": True}])
def test_a_manager_of_its_provider_region_or_label_decides(incident, provider, access, nord, limits):
    who = access("manager", **({"provider": nord} if limits.get("own") else limits))
    decided(who, filed(provider, incident))
    with scope(TEST):
        assert (Dispute.objects.get().state, Adjustment.objects.count()) == ("accepted", 1)


def test_whoever_filed_does_not_decide_whatever_their_rights(incident, provider, manager):
    both = provider[0], manager[1]
    dispute = filed(provider, incident)
    with pytest.raises(NotAllowed, match="Somebody else"):
        decided(both, dispute)


def test_only_the_providers_side_withdraws_and_attaches(incident, provider, manager):
    dispute = filed(provider, incident)
    with pytest.raises(NotAllowed):
        withdraw_dispute(actor=manager[0], rights=manager[1], dispute=dispute)
    with pytest.raises(NotAllowed):
        attach_file(actor=manager[0], rights=manager[1], dispute=dispute, name="a.pdf", body=PDF)


# What stays -------------------------------------------------------------------------------------------------
def test_it_is_decided_once_and_nothing_of_it_is_changed(incident, provider, manager):
    dispute = filed(provider, incident)
    with pytest.raises(Conflict, match="open already"):
        filed(provider, incident)
    decided(manager, dispute)
    for act in (lambda: decided(manager, dispute, "rejected"), lambda: withdraw_dispute(
        actor=provider[0], rights=provider[1], dispute=dispute
    )):  # fmt: skip
        with pytest.raises(Conflict, match="accepted already"):
            act()
    with pytest.raises(IntegrityError, match="stays as it is"), scope(TEST), transaction.atomic():
        rows("UPDATE slas_dispute SET state = 'open'")
    for statement in (
        "UPDATE slas_dispute SET text = ''",
        "DELETE FROM slas_disputestep",
        "UPDATE slas_adjustment SET reason = ''",
        "UPDATE slas_disputefile SET body = ''",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"), scope(TEST), transaction.atomic():
            rows(statement)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cause": "link"}, "cause"),
        ({"cause": "unknown"}, "cause"),
        ({"cause": "witches"}, "cause"),
        ({"text": "  "}, "text"),
        ({"text": "x" * 2001}, "text"),
        ({"begins": at(9)}, "begins"),
        ({"ends": at(15)}, "ends"),
        ({"begins": at(12), "ends": at(11)}, "ends"),
        ({"begins": datetime(2026, 11, 1, 11)}, "begins"),  # noqa: DTZ001  (that is the fault)
    ],
)
def test_a_claim_says_what_is_wrong_with_it(incident, provider, values, field):
    with pytest.raises(Invalid) as error:
        filed(provider, incident, **values)
    assert list(error.value.details) == [field]


# Files ------------------------------------------------------------------------------------------------------
def test_files_are_few_small_and_of_known_kinds(incident, provider):
    dispute = filed(provider, incident)

    def attach(name: str, body: bytes) -> DisputeFile:
        return attach_file(actor=provider[0], rights=provider[1], dispute=dispute, name=name, body=body)

    made = attach("../../etc/fuse <b>.pdf", PDF)
    assert (made.name, made.content_type, made.size_bytes) == ("fuse _b_.pdf", "application/pdf", len(PDF))
    assert attach("again.pdf", PDF).pk == made.pk
    for body in (b"", b"\x7fELF", b"<html>\x00", b"x" * (MOST_BYTES + 1)):
        with pytest.raises(Invalid):
            attach("odd.pdf", body)
    for number in range(4):
        attach("note.txt", f"note {number}".encode())
    with pytest.raises(Conflict, match="at most 5"):
        attach("one more.txt", b"one more")


def test_a_provider_cannot_fill_the_disk_by_filing_and_withdrawing(incident, provider):
    for _ in range(MOST_CLAIMS):
        withdraw_dispute(actor=provider[0], rights=provider[1], dispute=filed(provider, incident))
    with pytest.raises(Conflict, match="5 times"):
        filed(provider, incident)


def test_kinds_are_told_by_bytes():
    assert kind_of(b"\x89PNG\r\n\x1a\n...") == "image/png"
    assert kind_of(b"\xff\xd8\xff...") == "image/jpeg"
    assert kind_of("<script>über</script>".encode()) == "text/plain"
    with pytest.raises(AttachmentError):
        kind_of(b"GIF89a\x01\x00")
    assert [safe_name(name) for name in ("..", "C:\\x\\a.pdf", "a\r\nb: c", "")] == [
        "evidence",
        "a.pdf",
        "a_b_ c",
        "evidence",
    ]
