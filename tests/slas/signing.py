"""A real signer behind a real socket, in threads of this process, that signs files of reports."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from agent.protocol.desired import Document
from fleet.kit.errors import DomainError, NotFound
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import Ledger
from fleet.signer.operations import Limits, Signable, Signer, TokenBucket
from fleet.signer.reports import ReportToSign
from fleet.signer.server import SignerServer


def no_site(identity_id: int) -> Signable:
    raise NotFound("there is no such identity")


def no_documents(document_ids: Sequence[int]) -> dict[int, Document | DomainError]:
    return {pk: NotFound("there is no such document") for pk in document_ids}


@contextmanager
def signer_of_reports(folder: Path, read_report: Callable[[int], ReportToSign]) -> Iterator[Path]:
    """Runs until the block ends; gives the path of its socket."""
    socket = folder / "reports.sock"
    with (
        closing(KeyStore(folder / "report-keys", "demo.example", lambda: datetime.now(tz=UTC))) as store,
        closing(Ledger(folder / "report-keys")) as ledger,
    ):
        limits = Limits(*(TokenBucket(10, 100) for _ in range(3)))
        signer = Signer(
            store, "demo.example", no_site, limits, ledger=ledger, read_documents=no_documents, read_report=read_report
        )
        server = SignerServer(socket, signer)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield socket
        finally:
            server.shutdown()
            server.close()
            thread.join()
