"""What proves the offers of a report: signed documents, and the receipts that sites signed; the scope must be open."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sites.models import DesiredDocument, DesiredReceipt
from slas.reporting.counted import Offered

_CHUNK = 5_000


def offer_evidence(offered: Sequence[Offered]) -> Iterator[dict[str, Any]]:
    """One object an offer, for the evidence of a bundle: digests are those of the envelopes as they were signed."""
    for first in range(0, len(offered), _CHUNK):
        some = offered[first : first + _CHUNK]
        documents = DesiredDocument.objects.defer("envelope", "content").in_bulk(
            [one.document for one in some if one.document]
        )
        receipts = DesiredReceipt.objects.defer("envelope").in_bulk([one.receipt for one in some if one.receipt])
        for one in some:
            document, receipt = documents.get(one.document or 0), receipts.get(one.receipt or 0)
            yield {
                "type": "offer",
                "site": one.slug,
                "standard": one.standard,
                "rollout": one.rollout,
                "step": one.step,
                "event": one.event,
                "components": one.components,
                "document": document and {
                    "number": document.number,
                    "sha256": document.sha256,
                    "sent_at": _at(document.sent_at),
                },
                "receipt": receipt and {
                    "state": receipt.state,
                    "digest": receipt.digest,
                    "received_at": _at(receipt.received_at),
                },
            }  # fmt: skip


def _at(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
