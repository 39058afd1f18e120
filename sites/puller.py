"""Reads journals on, beside the polls of the same poller: paced, a bounded number at once, present states first.

Polls are never behind it: their tasks run in another thread over the same loop, and this one rests between rounds.
"""

import logging
from collections.abc import Sequence
from typing import Any

from django.db import DataError, IntegrityError

from agent.protocol.journal import Page
from sites.beside import Beside
from sites.journal_client import JournalTrouble, acknowledge, fetch_page
from sites.selectors.journal import Reading, readings
from sites.services.backfill import note_acked, note_problem, record_page
from sites.wire import WireError

logger = logging.getLogger(__name__)
AT_ONCE = 20


class Puller(Beside):
    """One a poller process; ends with stop()."""

    def work(self) -> int:
        """One round: a page of each journal that is due, up to AT_ONCE. Returns how many were due."""
        due = readings(poller=self._poller, limit=AT_ONCE)
        if due:
            self._acknowledge(self._record(due, self._run_all([self._page(reading) for reading in due])))
        return len(due)

    def _record(self, due: Sequence[Reading], pages: Sequence[Any]) -> list[tuple[Reading, int, str]]:
        """Commit what came; what may be acknowledged."""
        safe = []
        for reading, result in zip(due, pages, strict=True):
            if isinstance(result, JournalTrouble):
                logger.warning("journal: %s", result, extra={"site": reading.site_id})
                _complain(reading, str(result), alarm=result.alarm)
            elif isinstance(result, WireError):
                _complain(reading, f"it was not reached for its journal: {result.detail}", alarm=False)
            elif self._is_stored(reading, *result):
                safe.append((reading, result[0].to, result[0].head))
        return safe

    @staticmethod
    def _is_stored(reading: Reading, page: Page, body: bytes) -> bool:
        """Store one site's page; one that cannot be stored is that site's trouble, and no other's."""
        if not page.entries:
            _complain(reading, "its journal has less than it said", alarm=False)
            return False
        try:
            return record_page(
                page, body, site_id=reading.site_id, identity_id=reading.identity_id, anchor=reading.anchor
            )
        except (DataError, IntegrityError, OverflowError) as error:
            logger.warning("a page cannot be stored: %s", error, extra={"site": reading.site_id})
            _complain(reading, f"its journal cannot be stored: {str(error).splitlines()[0]}", alarm=True)
            return False

    def _acknowledge(self, safe: Sequence[tuple[Reading, int, str]]) -> None:
        """After the commit. A lost acknowledgement comes with the next page."""
        answers = self._run_all([self._ack(reading, upto, head) for reading, upto, head in safe])
        for (reading, upto, _), answer in zip(safe, answers, strict=True):
            if isinstance(answer, JournalTrouble):
                logger.warning("journal: %s", answer, extra={"site": reading.site_id})
                if answer.alarm:
                    _complain(reading, str(answer), alarm=True)
            elif not isinstance(answer, WireError):
                note_acked(reading.site_id, upto, identity_id=reading.identity_id)

    async def _page(self, reading: Reading) -> Any:
        try:
            return await fetch_page(self._wire, reading, self._vetting)
        except (JournalTrouble, WireError) as error:
            return error

    async def _ack(self, reading: Reading, upto: int, head: str) -> Any:
        try:
            return await acknowledge(self._wire, reading, self._vetting, upto, head)
        except (JournalTrouble, WireError) as error:
            return error


def _complain(reading: Reading, problem: str, *, alarm: bool) -> None:
    note_problem(reading.site_id, problem, identity_id=reading.identity_id, alarm=alarm)
