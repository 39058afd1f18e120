"""Hands sites what they are to run, beside the polls: one thread has it signed, another sends it and fetches receipts.

Level-triggered: a row is due while there is something to do, and what is to be done is read from the row. So a lost
message, a killed process or a site that was set up anew costs a later round, and never a second signature.
"""

import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from agent.protocol.desired import PutDesired, encode_document
from fleet.kit import signing
from sites.beside import Beside
from sites.desired_client import fetch_status, own_blobs, put_blobs, put_document
from sites.selectors.desired import Delivery, blobs, deliveries, to_sign, unsigned
from sites.services.delivery import (
    Told,
    give_out_anew,
    note_sending,
    record_answers,
    record_failures,
    record_signatures,
    record_told,
)
from sites.states import Answer
from sites.wire import WireError

logger = logging.getLogger(__name__)
T = TypeVar("T")
AT_ONCE = 500


class Signing(Beside):
    """Has documents signed. Apart from the Deliverer, so that the next ones are signed while these are handed over."""

    idle_s = 0.5
    brisk_s = 0.1
    rest_s = 0.05

    def __init__(self, *reach: Any, then: Callable[[], None]) -> None:
        """As Beside; `then` is called after each round that had some signed."""
        super().__init__(*reach)
        self._then = then

    def work(self) -> int:
        """One round, of up to AT_ONCE documents. Returns how many there were. Raises SignerAway, SignerRefused."""
        documents = unsigned(to_sign(poller=self._poller, limit=AT_ONCE))
        if documents:
            signed = signing.sign_documents(list(documents))
            record_signatures(
                [
                    (pk, encode_document(document), answer)
                    for (pk, document), answer in zip(documents.items(), signed, strict=True)
                ]
            )
            self._then()
        return len(documents)


class Deliverer(Beside):
    """One a poller process; ends with stop()."""

    idle_s = 0.5
    brisk_s = 0.1
    rest_s = 0.05

    def work(self) -> int:
        """One round, of up to AT_ONCE sites. Returns how many were due."""
        due = deliveries(poller=self._poller, limit=AT_ONCE)
        give_out_anew([site.site_id for site in due if site.handed_over and not site.recovering])
        still = [site for site in due if site.recovering or not site.handed_over]
        self._hand_over(_not_withdrawn([site for site in still if _is_to_be_handed(site)]))
        self._ask([site for site in still if not _is_to_be_handed(site)])
        return len(due)

    def _hand_over(self, sites: Sequence[Delivery]) -> None:
        answers = self._all(sites, [put_document(self._wire, site, self._vetting) for site in sites])
        lacking = [
            (site, own_blobs(site, answer.blobs)) for site, answer in answers if answer.reason == "blobs_missing"
        ]
        if lacking:
            bodies = blobs(sorted({name for _, names in lacking for name in names}))
            again = self._all(
                [site for site, _ in lacking],
                [
                    self._with_blobs(site, {name: bodies[name] for name in names if name in bodies})
                    for site, names in lacking
                ],
            )
            answers = [pair for pair in answers if pair[1].reason != "blobs_missing"] + again
        if answers:
            record_answers(answers)

    def _ask(self, sites: Sequence[Delivery]) -> None:
        told: list[tuple[Delivery, Told]] = self._all(
            sites, [fetch_status(self._wire, site, self._vetting) for site in sites]
        )
        if told:
            record_told(told)

    async def _with_blobs(self, site: Delivery, bodies: dict[str, bytes]) -> PutDesired:
        await put_blobs(self._wire, site, self._vetting, bodies)
        return await put_document(self._wire, site, self._vetting)

    def _all(self, sites: Sequence[Delivery], work: Sequence[Coroutine[Any, Any, T]]) -> list[tuple[Delivery, T]]:
        """What was answered, with whom; who was not reached is tried again later."""
        if not sites:
            return []
        results = self._run_all([_or_error(one) for one in work])
        failed = []
        answered = []
        for site, result in zip(sites, results, strict=True):
            if isinstance(result, WireError):
                logger.info("not delivered: %s", result.detail, extra={"site": site.site_id})
                failed.append(site)
            else:
                answered.append((site, result))
        if failed:
            record_failures(failed)
        return answered


def _not_withdrawn(sites: list[Delivery]) -> list[Delivery]:
    """Those whose document may go out, noted as sent before its first byte is."""
    if not sites:
        return []
    may = note_sending([site.document_id for site in sites if site.document_id is not None])
    return [site for site in sites if site.document_id in may]


def _is_to_be_handed(site: Delivery) -> bool:
    return site.envelope is not None and site.answer != Answer.ACCEPTED and not site.recovering


async def _or_error(work: Coroutine[Any, Any, T]) -> T | WireError:
    try:
        return await work
    except WireError as error:
        return error
