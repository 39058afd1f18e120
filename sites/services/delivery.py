"""What comes of handing documents over: signatures, answers, receipts. Written by the deliverer beside the pollers."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import connections

from agent.protocol.desired import DesiredStatus, PutDesired, Receipt, digest, envelope_document
from fleet.kit import audit, live
from fleet.kit.clock import database_now
from fleet.kit.rows import write_back
from fleet.kit.signing import Signed, SignerRefused
from fleet.kit.tenancy import DEFAULT, job, scope
from sites.models import DesiredDocument, DesiredReceipt, Site, SiteDesired
from sites.selectors.desired import Delivery, standing_of
from sites.services.desired import Order, give_out
from sites.services.sites import object_of
from sites.states import Answer

DELIVERY = job("delivery")
ASK_AGAIN = timedelta(seconds=60)
# A site that claimed to be at the end of all numbers could never be given a newer version.
MOST_SINCE_BACKUP = 1_000_000
# Versions that a site may have been given beyond the one of its newest receipt: a receipt is signed when a document has
# ended or is held, and until then newer ones are accepted, one at a time, and wait.
MOST_UNSIGNED = 100
FAILED = (timedelta(seconds=5), timedelta(minutes=5))
# A site refuses these for what may change by itself: they are tried again.
PASSING = frozenset({"storage", "blobs_missing"})
ALARMS = frozenset({"signature", "equivocation", "not_mine"})

# A resend writes nothing.
_SENDING = """
WITH locked AS (
    SELECT id, sent_at, withdrawn_at FROM edge_sites_desireddocument
    WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE
), noted AS (
    UPDATE edge_sites_desireddocument d SET sent_at = now() FROM locked
    WHERE d.id = locked.id AND locked.sent_at IS NULL AND locked.withdrawn_at IS NULL
)
SELECT id FROM locked WHERE withdrawn_at IS NULL
"""
_WITHDRAW = """
WITH locked AS (
    SELECT id FROM edge_sites_desireddocument WHERE id = ANY(%s) AND sent_at IS NULL ORDER BY id FOR NO KEY UPDATE
)
UPDATE edge_sites_desireddocument d SET withdrawn_at = COALESCE(withdrawn_at, now()) FROM locked
WHERE d.id = locked.id RETURNING d.id
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a site told when it was asked; `receipt` is the latest, opened, and `envelope` its bytes."""

    status: DesiredStatus
    receipt: Receipt | None
    envelope: bytes


def give_out_anew(site_ids: Sequence[int]) -> None:
    """These sites were handed over: the same content in the name of the new provider, as the next version. Audited."""
    if not site_ids:
        return
    with scope(DELIVERY):
        standing = SiteDesired.objects.select_related("document", "site").filter(site__in=site_ids)
        # One that is not signed yet will never be: its provider is no longer the site's.
        DesiredDocument.objects.filter(pk__in=[row.document_id for row in standing], envelope=None).update(
            refused="The site was handed over before it was signed."
        )
        orders = [
            Order(row.site, (standing_of(row.site, row) or row.document).content, row.document.hold)
            for row in standing
            if row.document  # what was undone is not tried again, where it is known what ran before
        ]
        made = give_out(orders, made_by=DELIVERY.name, reason="The site was handed over.", now=database_now())
        audit.record_many(
            DELIVERY,
            "site.apply",
            [(object_of(row.site), {"version": f"{row.epoch}.{row.version}", "hand_over": True}) for row in made],
        )


def note_sending(document_ids: Sequence[int]) -> set[int]:
    """These documents are about to go out; returns those that may. What is withdrawn never does: see withdraw()."""
    with scope(DELIVERY), connections[DEFAULT].cursor() as cursor:
        cursor.execute(_SENDING, {"ids": list(document_ids)})
        return {pk for (pk,) in cursor.fetchall()}


def withdraw(document_ids: Sequence[int]) -> set[int]:
    """Take these documents back where none of their bytes went out; returns those. Writes within the open scope.

    Whoever comes first, this or note_sending(), has the row; the other then sees it.
    """
    if not document_ids:
        return set()
    with connections[DEFAULT].cursor() as cursor:
        cursor.execute(_WITHDRAW, [list(document_ids)])
        return {pk for (pk,) in cursor.fetchall()}


def record_signatures(made: Sequence[tuple[int, bytes, Signed | SignerRefused]]) -> None:
    """Store the envelopes: triples of (document id, payload, what the signer said). A refusal is kept, and shown."""
    with scope(DELIVERY):
        now = database_now()
        said = {pk: (payload, signed) for pk, payload, signed in made}
        rows = list(DesiredDocument.objects.select_for_update().filter(pk__in=said, envelope=None).order_by("pk"))
        heads = {}
        for row in rows:
            payload, signed = said[row.pk]
            if isinstance(signed, SignerRefused):
                row.refused = str(signed)[:300]
                continue
            row.envelope = envelope_document(payload, signed.key, signed.signature)
            row.sha256, row.signed_at, row.refused = digest(row.envelope), now, ""
            heads[row.pk] = row.sha256
        write_back(rows, ["envelope", "sha256", "signed_at", "refused"])
        standing = list(SiteDesired.objects.select_for_update().filter(document__in=said).order_by("pk"))
        for one in standing:
            assert one.document_id is not None
            if one.document_id in heads:
                one.last_sha256 = heads[one.document_id]
            else:  # the signer refuses it: nothing to do until there is another version
                one.due_at = None
        write_back(standing, ["last_sha256", "due_at"])
        _tell(standing)


def record_answers(answers: Sequence[tuple[Delivery, PutDesired]]) -> None:
    """What sites said to the documents they were handed. An alarm is audited."""
    said = {delivery.site_id: (delivery, answer) for delivery, answer in answers}
    with scope(DELIVERY):
        now = database_now()
        rows = _locked(said)
        for row in rows:
            delivery, answer = said[row.site_id]
            if row.document_id != delivery.document_id:  # a newer one was given out meanwhile
                continue
            refused = answer.state == "refused"
            row.answer = Answer.REFUSED if refused else Answer.ACCEPTED
            row.answer_reason, row.answer_detail = answer.reason, answer.detail[:300]
            row.answered_at, row.tries = now, 0
            row.due_at = now + ASK_AGAIN if not refused or answer.reason in PASSING else None
            if not refused and (row.reported_epoch, row.reported_version) == delivery.document:
                row.due_at = now  # an earlier answer was lost: its reports have said all, and will not bring us back
        fields = ["answer", "answer_reason", "answer_detail", "answered_at", "tries", "due_at"]
        write_back(rows, fields)
        alarms = [pk for pk, (_, answer) in said.items() if answer.state == "refused" and answer.reason in ALARMS]
        for site in Site.objects.filter(pk__in=alarms):
            answer = said[site.pk][1]
            note = f"the site refuses its document: {answer.reason}. {answer.detail}"[:300]
            audit.record(DELIVERY, "desired.alarm", **object_of(site), note=note)
        _tell(rows)


def record_told(told: Sequence[tuple[Delivery, Told]]) -> None:
    """How far sites are, and the receipts that they signed; the same receipt again changes nothing."""
    said = {delivery.site_id: (delivery, one) for delivery, one in told}
    with scope(DELIVERY):
        now = database_now()
        rows = _locked(said)
        for row in rows:
            delivery, one = said[row.site_id]
            status = one.status
            row.done, row.total, row.tries = status.done, status.total, 0
            row.reported_epoch, row.reported_version = status.epoch, status.version
            row.reported_state, row.reported_detail, row.reported_at = status.state, status.detail[:512], now
            if delivery.recovering:
                _recover(row, one)
            if row.document_id == delivery.document_id or delivery.recovering:
                row.due_at = now if row.document_id is not None and _forgotten(row, delivery, status) else None
                if row.due_at is not None:
                    row.answer = ""
            # else a newer document was given out meanwhile, which is due still
            if row.recovering:  # a receipt may yet prove what it says
                row.due_at = now + ASK_AGAIN
            elif delivery.recovering and delivery.document is not None and delivery.envelope is None:
                row.due_at = now  # it waited for its signature when the backup was made: the signer decides
        fields = ["done", "total", "tries", "reported_epoch", "reported_version", "reported_state", "reported_detail"]
        fields += ["reported_at", "due_at", "answer", "version", "last_sha256", "recovering"]
        fields += ["answer_reason", "answer_detail"]
        write_back(rows, fields)
        _store_receipts([(delivery, one) for delivery, one in said.values() if one.receipt is not None])
        _tell(rows)


def record_failures(deliveries: Sequence[Delivery]) -> None:
    """They were not reached, or answered nonsense: try again, with growing pauses."""
    tried = {delivery.site_id: delivery.tries for delivery in deliveries}
    documents = {delivery.site_id: delivery.document_id for delivery in deliveries}
    with scope(DELIVERY):
        now = database_now()
        rows = _locked(tried)
        least, most = FAILED
        for row in rows:
            if row.document_id != documents[row.site_id]:  # a newer one was given out meanwhile: it waits for no pause
                continue
            row.due_at = now + min(most, least * 2 ** min(tried[row.site_id], 10))
            row.tries = tried[row.site_id] + 1
        write_back(rows, ["due_at", "tries"])


# ------------------------------------------------------------------------------------------------------------
def _recover(row: SiteDesired, told: Told) -> None:
    """After a restore: versions go on after the newest that the site has, as its own signed receipt proves it.

    The status that the receipt comes with is not signed: nothing of it remains that could be shown to the site's owner
    later. What a liar gains by it: to say less than the receipt nothing, for the higher counts; to keep the receipt
    back as well leaves the backup's counters, and a version that was signed before is refused by the signer's ledger.
    To say more skips numbers of this one site. So that is believed as far as the protocol explains it, for versions
    that were accepted and have no receipt yet; beyond MOST_UNSIGNED the site stays recovering until a receipt catches
    up. The hash of a status is not taken: what we sign must not vouch for a document that nobody has signed for, and
    an honest site says "skipped" of the next version, which is no more than the centre knows.
    """
    known, claimed, receipt = (row.epoch, row.version), (told.status.epoch, told.status.version), told.receipt
    signed = (receipt.epoch, receipt.version) if receipt is not None else (0, 0)
    proven = max(known, signed)
    problem = ""
    if proven[0] != row.epoch or proven[1] - row.version > MOST_SINCE_BACKUP:  # nobody gave out so many
        problem = f"it has signed for version {signed[0]}.{signed[1]}, and the backup knows of {known[0]}.{known[1]}"
    elif claimed > proven and (claimed[0] != row.epoch or claimed[1] - proven[1] > MOST_UNSIGNED):
        proof = f"its newest receipt is for {signed[0]}.{signed[1]}" if receipt is not None else "it shows no receipt"
        problem = f"it says that it has version {claimed[0]}.{claimed[1]}, and {proof}"
    if problem:
        row.answer_reason, row.answer_detail = SiteDesired.COUNTERS, problem
        return
    if receipt is not None and proven > known:
        row.last_sha256 = receipt.sha256
    row.version = max(proven, claimed)[1]
    if row.answer_reason == SiteDesired.COUNTERS:
        row.answer_reason = row.answer_detail = ""
    row.recovering = False


def _forgotten(row: SiteDesired, delivery: Delivery, status: DesiredStatus) -> bool:
    """Whether the site has lost the document that it once accepted: it was set up anew."""
    return (
        delivery.document is not None
        and row.document_id == delivery.document_id
        and (status.epoch, status.version) < delivery.document
        and row.answer != Answer.REFUSED
    )


def _store_receipts(told: Sequence[tuple[Delivery, Told]]) -> None:
    versions = [(delivery.site_id, one.receipt) for delivery, one in told]
    wanted = {receipt.sha256 for _, receipt in versions if receipt is not None}
    documents = {row.sha256: row.pk for row in DesiredDocument.objects.filter(sha256__in=wanted).only("pk", "sha256")}
    rows = []
    for delivery, one in told:
        receipt = one.receipt
        assert receipt is not None
        rows.append(
            DesiredReceipt(
                site_id=delivery.site_id,
                provider_id=delivery.provider_id,
                identity_id=delivery.identity_id,
                document_id=documents.get(receipt.sha256),
                epoch=receipt.epoch,
                version=receipt.version,
                document_sha256=receipt.sha256,
                state=receipt.state,
                detail=receipt.detail,
                at=receipt.at,
                boot=receipt.boot,
                changed=list(receipt.changed),
                digest=digest(one.envelope),
                envelope=one.envelope,
            )
        )
    DesiredReceipt.objects.bulk_create(rows, ignore_conflicts=True, batch_size=500)


def _locked(site_ids: object) -> list[SiteDesired]:
    found = SiteDesired.objects.select_for_update().filter(site__in=list(site_ids))  # type: ignore[call-overload]
    return list(found.order_by("site_id"))


def _tell(rows: Sequence[SiteDesired]) -> None:
    live.publish(hints=[(("site", row.site_id), row.provider_id) for row in rows])
