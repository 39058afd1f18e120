"""Tells others at once that sites said something new of their documents; apart from polls, which it never holds up."""

import logging
import threading
from typing import Any, Final

from celery import current_app
from django.conf import settings
from kombu.exceptions import OperationalError

from sites.beside import Beside

logger = logging.getLogger(__name__)
EVERY_S: Final = 0.2


class Hinting(Beside):
    """Starts the task that waits for such news, rather than at its next beat: five times a second at most.

    A broker that is away or does not answer keeps this thread for seconds, and nobody else. What is lost costs half a
    second: beats come anyway.
    """

    idle_s = 60.0

    def __init__(self, *reach: Any) -> None:
        """As Beside."""
        super().__init__(*reach)
        self._news = threading.Event()

    def tell(self) -> None:
        """There is news; from any thread, and at once."""
        self._news.set()
        self.wake()

    def work(self) -> int:
        """Send one hint if there is news, and rest. Returns 0: only tell() brings the next round forward."""
        if self._news.is_set():
            self._news.clear()
            try:
                current_app.send_task(settings.DOCUMENTS_WATCHED_BY, expires=1, retry=False)
            except OperationalError:
                logger.info("the broker is away: the next beat it is")
            self._ended.wait(EVERY_S)
        return 0
