"""`manage.py signer`: keeps the centre's private keys; certifies sites and services, and signs documents and reports,
for the other processes.
"""

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from fleet.kit.tenancy import job, scope
from fleet.signer.authority import SignerError
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import Ledger
from fleet.signer.operations import Limits, Signer, TokenBucket
from fleet.signer.reports import ReportToSign
from fleet.signer.server import SignerServer, serve
from sites.selectors.desired import documents_to_sign
from sites.selectors.identity import signable
from slas.selectors.report_files import file_to_sign

SERVICES_PER_S = 20
READ_S = 5

log = logging.getLogger("fleet.signer")


class Command(BaseCommand):
    """Runs until SIGTERM. It starts without the database, which certificates of sites, documents and reports need."""

    help = __doc__
    requires_system_checks: list[str] = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with (
                closing(KeyStore(settings.SIGNER_KEYS, settings.FLEET_NAME, lambda: datetime.now(tz=UTC))) as store,
                closing(Ledger(settings.SIGNER_KEYS)) as ledger,
            ):
                limits = Limits(
                    sites=TokenBucket(settings.SIGNER_SITES_PER_S, settings.SIGNER_SITES_BURST),
                    services=TokenBucket(SERVICES_PER_S, SERVICES_PER_S),
                    documents=TokenBucket(settings.SIGNER_DOCUMENTS_PER_S, settings.SIGNER_DOCUMENTS_BURST),
                )
                signer = Signer(
                    store,
                    settings.FLEET_NAME,
                    signable,
                    limits,
                    ledger=ledger,
                    read_documents=documents_to_sign,
                    read_report=read_report,
                    reading=reading,
                )
                server = SignerServer(
                    settings.SIGNER_SOCKET,
                    signer,
                    mode=settings.SIGNER_SOCKET_MODE,
                    uids=settings.SIGNER_UIDS,
                )
                serve(server, lambda: log.info("the signer is ready", extra={"socket": settings.SIGNER_SOCKET}))
        except SignerError as error:
            raise CommandError(error.message) from None


def read_report(file_id: int) -> ReportToSign:
    """The file of a report that a row has to be signed. Raises NotFound, Conflict."""
    found = file_to_sign(file_id)
    return ReportToSign(found.kind, found.content, found.digest)


@contextmanager
def reading() -> Iterator[None]:
    """One read-only look at the database a request, bounded in time; the connection goes back to the pool after it."""
    try:
        with scope(job("signer")):
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL statement_timeout = '{READ_S}s'")
                cursor.execute("SET TRANSACTION READ ONLY")
            yield
    finally:
        connection.close()
