"""Versions of what sites run: given out, frozen, handed over; and all that is not let through."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.utils import timezone

from agent.protocol.desired import (
    DesiredStatus,
    PutDesired,
    Receipt,
    digest,
    encode_document,
    open_document,
    seal_receipt,
    sign_document,
)
from agent.protocol.report import format_time
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.models import AuditEntry
from fleet.kit.signing import Signed, SignerRefused
from fleet.kit.tenancy import Rights, scope
from sites.desired_client import _read, own_blobs
from sites.models import Blob, DesiredDocument, DesiredReceipt, Site, SiteDesired, SiteState
from sites.selectors.desired import Delivery, deliveries, desired_of, documents_of, to_sign, unsigned
from sites.services import desired
from sites.services.delivery import (
    MOST_UNSIGNED,
    Told,
    give_out_anew,
    record_answers,
    record_failures,
    record_signatures,
    record_told,
)
from sites.services.sites import change_life, update_site
from sites.wire import WireError
from tests.conftest import TEST, everything
from tests.sites.joined import owned, present
from tests.sites.told import document_to_sign

pytestmark = pytest.mark.usefixtures("database")
REASON = "bring the tills to 4.2.1"
IMAGE = "registry.example/pos@sha256:" + "a" * 64
WORKLOADS = [{"name": "pos", "image": IMAGE, "version": "4.2.1"}]
KEY = Ed25519PrivateKey.generate()


def apply(site: Site, content: dict[str, Any] | None = None, **options: Any) -> DesiredDocument:
    content = {"workloads": WORKLOADS} if content is None else content
    return desired.apply(actor=TEST, rights=everything(), site=site, content=content, reason=REASON, **options)


def sign(document: DesiredDocument) -> bytes:
    """As the signer and the deliverer do it; returns the envelope."""
    found = unsigned([document.pk])[document.pk]
    payload, signature = sign_document(found, KEY)
    record_signatures([(document.pk, payload, Signed(signature, KEY.public_key().public_bytes_raw(), ""))])
    return bytes(owned(DesiredDocument).get(pk=document.pk).envelope)


@pytest.fixture
def joined(make_site: Any, certified: Any) -> Any:
    """A site that is enrolled, active and reached; and its keys."""

    def make(**values: Any) -> tuple[Site, Any]:
        site = make_site(life="active", **values)
        identity = present(site, pre_authorised=True)
        certified(site)
        owned(SiteState).filter(site=site).update(reachability="reachable", misses=0)
        return site, identity

    return make


def due() -> list[Delivery]:
    return deliveries(poller=0, limit=10)


def told(identity: Any, document: DesiredDocument, state: str, **values: Any) -> Told:
    row = owned(DesiredDocument).get(pk=document.pk)
    receipt = Receipt(
        site=identity.site,
        epoch=row.epoch,
        version=row.version,
        sha256=row.sha256,
        state=state,
        at=timezone.now(),
        boot="boot-1",
        changed=("pos",),
    )
    envelope = seal_receipt(receipt, identity.keys.signing())
    status = DesiredStatus(
        epoch=row.epoch, version=row.version, sha256=row.sha256, state=state, receipt=envelope, **values
    )
    return Told(status, receipt, envelope)


class TestGivingOut:
    def test_a_version_is_a_row_that_the_signer_reads(self, make_site: Any) -> None:
        site = make_site(life="active")
        row = apply(site)
        assert (row.epoch, row.version, row.prev_sha256, row.hold) == (1, 1, "", False)
        with scope(TEST):
            document = document_to_sign(row.pk)
        assert (document.site, document.provider, document.version) == (site.uuid, site.provider_id, 1)
        assert document.workloads[0].image == IMAGE
        assert format_time(document.issued_at) == format_time(row.issued_at)
        envelope = sign(row)
        assert open_document(envelope, [KEY.public_key().public_bytes_raw()]) == document
        entry = owned(AuditEntry).get(action="site.apply")
        assert (entry.note, entry.after["version"]) == (REASON, "1.1")

    def test_versions_follow_each_other_by_the_hash_of_the_envelope(self, make_site: Any) -> None:
        site = make_site(life="active")
        envelope = sign(apply(site))
        assert apply(site, {}).prev_sha256 == digest(envelope)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            ({"workloads": [{"name": "pos", "image": "pos:latest"}]}, "matching regex"),
            ({"workloads": WORKLOADS * 2}, "two workloads of one name"),
            ({"workloads": [{**WORKLOADS[0], "privileged": True}]}, "unknown field `privileged`"),
            ({"provider": 7}, "no member 'provider'"),
            ({"os": {"packages": {"bad name": "1"}}}, "no package and version"),
            ({"workloads": [{**WORKLOADS[0], "config_sha256": "sha256:" + "0" * 64}]}, "There is no blob"),
            ({"agent": {"version": "1.2.3", "blob": "sha256:" + "1" * 64}}, "There is no blob"),
        ],
    )
    def test_what_is_no_document_is_said_and_nothing_is_given_out(
        self, make_site: Any, content: dict[str, Any], said: str
    ) -> None:
        site = make_site(life="active")
        with pytest.raises(Invalid, match=said):
            apply(site, content)
        assert not owned(DesiredDocument).exists()
        assert not owned(SiteDesired).exists()
        assert not owned(AuditEntry).filter(action="site.apply").exists()

    def test_one_at_a_time_and_only_what_the_orderer_saw(self, make_site: Any) -> None:
        site = make_site(life="active")
        first = apply(site, expect=0)
        with pytest.raises(Conflict, match="not signed yet"):
            apply(site)
        sign(first)
        with pytest.raises(Conflict, match="another version meanwhile"):
            apply(site, expect=0)
        assert apply(site, expect=1).version == 2

    def test_what_the_signer_refuses_does_not_block_the_next(self, make_site: Any) -> None:
        site = make_site(life="active")
        row = apply(site)
        record_signatures([(row.pk, b"", SignerRefused("overtaken", "version 1.1 is not newer"))])
        assert owned(DesiredDocument).get().refused == "version 1.1 is not newer"
        assert owned(SiteDesired).get().due_at is None
        assert apply(site).version == 2

    def test_who_may_not_cannot_and_a_site_that_is_not_active_is_told_nothing(self, make_site: Any) -> None:
        site = make_site(life="active")
        for call in (
            lambda: desired.apply(actor=TEST, rights=Rights(), site=site, content={}, reason=REASON),
            lambda: desired.set_hold(actor=TEST, rights=Rights(), site=site, hold=True, reason=REASON),
            lambda: desired.put_config(actor=TEST, rights=Rights(), config={}),
            lambda: desired.put_wheel(actor=TEST, rights=Rights(), body=b"PK"),
        ):
            with pytest.raises(NotAllowed):
                call()
        change_life(actor=TEST, rights=everything(), site=site, life="retired")
        with pytest.raises(Conflict, match="not active"):
            apply(site)
        assert not owned(DesiredDocument).exists()
        assert not owned(Blob).exists()

    def test_a_configuration_has_one_digest_however_it_is_written(self) -> None:
        one = desired.put_config(actor=TEST, rights=everything(), config={"env": {"A": "1", "B": "2"}})
        two = desired.put_config(actor=TEST, rights=everything(), config={"env": {"B": "2", "A": "1"}, "ports": []})
        assert one == two == owned(Blob).get().digest
        with pytest.raises(Invalid, match="no configuration"):
            desired.put_config(actor=TEST, rights=everything(), config={"privileged": True})

    def test_freezing_is_the_next_version_with_the_same_content(self, make_site: Any) -> None:
        site = make_site(life="active")
        with pytest.raises(Conflict, match="never told"):
            desired.set_hold(actor=TEST, rights=everything(), site=site, hold=True, reason=REASON)
        sign(apply(site))
        frozen = desired.set_hold(actor=TEST, rights=everything(), site=site, hold=True, reason=REASON)
        assert (frozen.version, frozen.hold, frozen.content["workloads"][0]["image"]) == (2, True, IMAGE)
        sign(frozen)
        assert apply(site, {}).hold  # a new version does not thaw by itself
        with pytest.raises(Conflict, match="is frozen already"):
            desired.set_hold(actor=TEST, rights=everything(), site=site, hold=True, reason=REASON)


BAD = {"workloads": [{"name": "pos", "image": IMAGE.replace("a" * 64, "b" * 64), "version": "6.6.6"}]}


class TestWhatStands:
    """A version that only freezes, thaws or hands over repeats what the site runs, and never what came to nothing."""

    @pytest.fixture
    def undone(self, joined: Any) -> tuple[Site, Any]:
        """A site that applied its first version, and rolled its second back."""
        site, identity = joined()
        for content, state in ((None, "applied"), (BAD, "rolled_back")):
            row = apply(site, content)
            sign(row)
            owned(SiteDesired).update(due_at=timezone.now(), answer="accepted")
            record_told([(due()[0], told(identity, row, state))])
        return site, identity

    def hold(self, site: Site, hold: bool) -> DesiredDocument:
        return desired.set_hold(actor=TEST, rights=everything(), site=site, hold=hold, reason=REASON)

    def test_freeze_and_thaw_after_a_rollback(self, undone: Any) -> None:
        site, _ = undone
        frozen = self.hold(site, True)
        sign(frozen)
        thawed = self.hold(site, False)
        assert [(row.version, row.hold, row.content["workloads"]) for row in (frozen, thawed)] == [
            (3, True, WORKLOADS),
            (4, False, WORKLOADS),
        ]

    def test_a_freeze_that_the_signer_refused_may_be_ordered_again_and_repeats_what_the_site_is_at(
        self, joined: Any
    ) -> None:
        site, identity = joined()
        row = apply(site)
        sign(row)
        record_told([(due()[0], told(identity, row, "applying"))])
        refused = self.hold(site, True)
        record_signatures([(refused.pk, b"", SignerRefused("rate", "too many"))])
        again = self.hold(site, True)
        assert (again.version, again.hold, again.content) == (3, True, row.content)

    def test_a_hand_over_after_a_rollback(self, undone: Any, make_provider: Any, certified: Any) -> None:
        site, _ = undone
        update_site(actor=TEST, rights=everything(), site=site, values={"provider": make_provider("new")})
        certified(owned(Site).get())
        give_out_anew([site.pk])
        assert owned(DesiredDocument).latest("pk").content["workloads"] == WORKLOADS


class TestDelivery:
    def test_it_is_due_until_the_site_has_said_that_it_is_done(self, joined: Any) -> None:
        site, identity = joined()
        row = apply(site)
        assert (to_sign(poller=0, limit=10), due()) == ([row.pk], [])
        assert (to_sign(poller=1, limit=10), to_sign(poller=0, limit=0)) == ([], [])
        envelope = sign(row)
        assert to_sign(poller=0, limit=10) == []
        (one,) = due()
        assert (one.document_id, one.document, one.envelope, one.answer) == (row.pk, (1, 1), envelope, "")
        record_answers([(one, PutDesired(state="accepted"))])
        assert due() == []  # it is asked when its reports say something new, or after a while
        with scope(TEST):
            assert desired_of(site).answer == "accepted"
        owned(SiteDesired).update(due_at=timezone.now())
        (one,) = due()
        record_told([(one, told(identity, row, "applied", done=3, total=3))])
        assert due() == []
        receipt = owned(DesiredReceipt).get()
        assert (receipt.document_id, receipt.state, receipt.changed) == (row.pk, "applied", ["pos"])
        record_told([(one, Told(told(identity, row, "applied").status, None, b""))])
        assert owned(DesiredReceipt).count() == 1

    def test_a_site_whose_answer_was_lost_is_asked_at_once_for_its_receipt(self, joined: Any) -> None:
        site, identity = joined()
        row = apply(site)
        sign(row)
        owned(SiteDesired).update(reported_epoch=1, reported_version=1, reported_state="applied")
        (one,) = due()
        record_answers([(one, PutDesired(state="unchanged"))])
        (one,) = due()
        assert one.answer == "accepted"
        record_told([(one, told(identity, row, "applied"))])
        assert (due(), owned(DesiredReceipt).get().state) == ([], "applied")

    def test_a_refusal_is_kept_and_an_alarm_is_audited(self, joined: Any) -> None:
        site, _ = joined()
        sign(apply(site))
        (one,) = due()
        record_answers([(one, PutDesired(state="refused", reason="equivocation", detail="another 1.1"))])
        row = owned(SiteDesired).get()
        assert (row.answer, row.answer_reason, row.answer_detail, row.due_at) == (
            *("refused", "equivocation", "another 1.1"),
            None,
        )
        assert owned(AuditEntry).filter(action="desired.alarm").count() == 1

    def test_what_may_pass_is_tried_again_and_who_is_away_with_growing_pauses(self, joined: Any) -> None:
        site, _ = joined()
        sign(apply(site))
        (one,) = due()
        record_answers([(one, PutDesired(state="refused", reason="storage", detail="no space left"))])
        assert owned(SiteDesired).get().due_at > timezone.now()
        pauses = []
        for _ in range(3):
            owned(SiteDesired).update(due_at=timezone.now())
            record_failures(due())
            pauses.append(round((owned(SiteDesired).get().due_at - timezone.now()).total_seconds()))
        assert pauses == [5, 10, 20]

    def test_an_answer_to_an_older_version_does_not_count_for_the_newer(self, joined: Any) -> None:
        site, _ = joined()
        sign(apply(site))
        (one,) = due()
        apply(site, {})
        record_answers([(one, PutDesired(state="accepted"))])
        assert owned(SiteDesired).get().answer == ""

    @pytest.mark.parametrize("said", ["told", "nothing"])
    def test_what_a_site_says_of_an_older_version_holds_up_no_newer_one(self, joined: Any, said: str) -> None:
        """The order comes while the site is asked about the one before: it is due as if nobody had asked."""
        site, identity = joined()
        row = apply(site)
        sign(row)
        owned(SiteDesired).update(answer="accepted")
        (asked,) = due()
        newer = apply(site, {})
        if said == "told":
            record_told([(asked, told(identity, row, "applied"))])
            assert owned(DesiredReceipt).get().document_id == row.pk
        else:
            record_failures([asked])
        assert to_sign(poller=0, limit=10) == [newer.pk]
        envelope = sign(newer)
        (one,) = due()
        assert (one.document_id, one.envelope, one.answer, one.tries) == (newer.pk, envelope, "", 0)

    def test_a_site_that_was_set_up_anew_is_handed_the_same_bytes_again(self, joined: Any) -> None:
        site, _ = joined()
        envelope = sign(apply(site))
        (one,) = due()
        record_answers([(one, PutDesired(state="accepted"))])
        owned(SiteDesired).update(due_at=timezone.now())
        (one,) = due()
        record_told([(one, Told(DesiredStatus(epoch=0, version=0, sha256=None, state="none"), None, b""))])
        (one,) = due()
        assert (one.envelope, one.answer) == (envelope, "")

    def test_who_is_not_reached_or_has_no_certificate_of_its_provider_is_not_due(self, joined: Any) -> None:
        site, _ = joined()
        apply(site)
        for values in ({"reachability": "unreachable"}, {"misses": 1}):
            owned(SiteState).filter(site=site).update(**values)
            assert due() == []
            owned(SiteState).filter(site=site).update(reachability="reachable", misses=0)
        owned(Site).update(tls_name="s-x.p999.sites.test.example")
        assert due() == []

    def test_after_a_hand_over_the_same_content_is_given_out_in_the_name_of_the_new_provider(
        self, joined: Any, make_provider: Any, certified: Any
    ) -> None:
        site, _ = joined()
        row = apply(site)
        new = make_provider("new")
        update_site(actor=TEST, rights=everything(), site=site, values={"provider": new})
        with scope(TEST), pytest.raises(Conflict, match="earlier provider"):
            document_to_sign(row.pk)
        certified(owned(Site).get())
        (one,) = due()
        assert one.handed_over
        assert to_sign(poller=0, limit=10) == []
        give_out_anew([site.pk])
        (number,) = to_sign(poller=0, limit=10)
        with scope(TEST):
            document = document_to_sign(number)
        assert (document.provider, document.version) == (new.pk, 2)
        assert owned(DesiredDocument).get(pk=row.pk).provider_id != new.pk


class Lost:
    """A site that recovers: the backup knows its version 1.1; `signs` makes a receipt, `says` what it answers."""

    def __init__(self, site: Site, identity: Any) -> None:
        self.site, self.identity = site, identity
        self.first = apply(site)
        self.envelope = sign(self.first)
        owned(SiteDesired).update(recovering=True, answer="accepted")

    def signs(self, version: int, epoch: int = 1, state: str = "applied") -> tuple[Receipt, bytes]:
        receipt = Receipt(
            site=self.site.uuid,
            epoch=epoch,
            version=version,
            sha256=digest(b"%d" % version),
            state=state,
            at=timezone.now(),
            boot="boot-1",
        )
        return receipt, seal_receipt(receipt, self.identity.keys.signing())

    def says(self, version: int, signed: tuple[Receipt, bytes] | None = None, epoch: int = 1) -> Any:
        """It answers with this status, and with that receipt; how the site stands then."""
        receipt, envelope = signed or (None, b"")
        sha256 = digest(b"status") if version else None
        status = DesiredStatus(epoch=epoch, version=version, sha256=sha256, state="accepted", receipt=envelope or None)
        owned(SiteDesired).update(due_at=timezone.now())
        (one,) = due()
        record_told([(one, Told(status, receipt, envelope))])
        return owned(SiteDesired).get()


class TestRecovery:
    @pytest.fixture
    def lost(self, joined: Any) -> Lost:
        return Lost(*joined())

    def test_nothing_is_given_out_or_signed_until_the_site_has_told_its_counters(self, lost: Lost) -> None:
        with scope(TEST), pytest.raises(Conflict, match="told its counters"):
            document_to_sign(lost.first.pk)
        with pytest.raises(Conflict, match="told its counters"):
            apply(lost.site)
        assert due()[0].recovering
        row = lost.says(9, lost.signs(9))
        assert (row.recovering, row.due_at) == (False, None)
        made = apply(lost.site)
        assert (made.epoch, made.version, made.prev_sha256) == (1, 10, digest(b"9"))

    def test_counters_never_go_back(self, lost: Lost) -> None:
        assert not lost.says(0, epoch=0).recovering
        sign(made := apply(lost.site))
        assert (made.version, made.prev_sha256) == (2, digest(lost.envelope))

    @pytest.mark.parametrize("status", [0, 1, 8])
    def test_a_status_that_says_less_than_the_receipt_gains_nothing(self, lost: Lost, status: int) -> None:
        row = lost.says(status, lost.signs(9))
        assert (row.recovering, row.version, row.last_sha256) == (False, 9, digest(b"9"))
        assert owned(DesiredReceipt).get().version == 9  # the evidence

    def test_what_is_accepted_and_not_receipted_yet_counts_but_its_hash_is_nobodys_word(self, lost: Lost) -> None:
        row = lost.says(11, lost.signs(9))
        assert (row.recovering, row.version, row.last_sha256) == (False, 11, digest(b"9"))

    def test_a_site_without_any_receipt_is_believed_as_far(self, lost: Lost) -> None:
        row = lost.says(1 + MOST_UNSIGNED)
        assert (row.recovering, row.version, row.last_sha256) == (False, 101, digest(lost.envelope))

    def test_beyond_that_it_stays_recovering_until_its_receipt_catches_up(self, lost: Lost) -> None:
        row = lost.says(10 + MOST_UNSIGNED, lost.signs(9))
        assert (row.recovering, row.version, row.due_at > timezone.now()) == (True, 1, True)
        assert row.recovery_problem == "it says that it has version 1.110, and its newest receipt is for 1.9"
        row = lost.says(10 + MOST_UNSIGNED, lost.signs(110))
        assert (row.recovering, row.version, row.last_sha256) == (False, 110, digest(b"110"))
        assert (row.recovery_problem, row.answer_reason, row.answer_detail) == ("", "", "")

    def test_a_site_that_claims_the_end_of_all_numbers_stays_recovering_whether_it_signs_that_or_not(
        self, lost: Lost
    ) -> None:
        end = 2**63 - 2
        unsigned_claims = [lost.says(end), lost.says(5, epoch=2), lost.says(end, lost.signs(3))]
        signed_claims = [lost.says(end, lost.signs(end)), lost.says(5, lost.signs(5, epoch=2), epoch=2)]
        for row in unsigned_claims + signed_claims:
            assert (row.recovering, row.epoch, row.version, row.answer_reason) == (True, 1, 1, "counters")
            assert row.last_sha256 == digest(lost.envelope)
        assert unsigned_claims[0].recovery_problem == f"it says that it has version 1.{end}, and it shows no receipt"
        assert signed_claims[0].recovery_problem == f"it has signed for version 1.{end}, and the backup knows of 1.1"
        with pytest.raises(Conflict, match="told its counters"):
            apply(lost.site)

    def test_what_waited_for_its_signature_when_the_backup_was_made_does_not_block_the_site(self, lost: Lost) -> None:
        owned(SiteDesired).update(recovering=False)
        waiting = apply(lost.site, {})
        owned(SiteDesired).update(recovering=True)
        assert not lost.says(9, lost.signs(9)).recovering
        assert to_sign(poller=0, limit=10) == [waiting.pk]
        with scope(TEST), pytest.raises(Conflict, match="a newer version"):
            document_to_sign(waiting.pk)
        record_signatures([(waiting.pk, b"", SignerRefused("conflict", "a newer version was given out"))])
        assert apply(lost.site).version == 10


class TestHostileSites:
    def test_a_site_is_given_the_blobs_of_its_own_document_and_no_others(self, joined: Any) -> None:
        own = desired.put_config(actor=TEST, rights=everything(), config={"env": {"A": "1"}})
        foreign = desired.put_config(actor=TEST, rights=everything(), config={"env": {"A": "another site's"}})
        site, _ = joined()
        sign(apply(site, {"workloads": [{**WORKLOADS[0], "config_sha256": own}]}))
        (one,) = due()
        assert own_blobs(one, [foreign, own]) == [own]

    @pytest.mark.parametrize("detail", ["a\\u0000b", "\\ud800", "a\\u0007b"])
    def test_what_the_database_refuses_is_refused_before_it_meets_others(self, detail: str) -> None:
        body = f'{{"state":"refused","reason":"storage","detail":"{detail}"}}'.encode()
        with pytest.raises(WireError):
            _read(200, body, PutDesired)


def test_lists_are_newest_first(make_site: Any) -> None:
    site = make_site(life="active")
    first = apply(site)
    sign(first)
    second = apply(site, {})
    assert encode_document(unsigned([second.pk])[second.pk])
    with scope(TEST):
        assert [row.pk for row in documents_of(site)] == [second.pk, first.pk]
        assert [row.pk for row in documents_of(site, before=second.pk)] == [first.pk]
