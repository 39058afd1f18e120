"""Real signers behind real sockets that sign files of reports: in threads of this process, or as the process it is."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

from django.db import connections
from django.test import override_settings

from agent.protocol.desired import Document
from fleet.kit.errors import DomainError, NotFound
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import Ledger
from fleet.signer.management.commands import signer
from fleet.signer.operations import Limits, Signable, Signer, TokenBucket
from fleet.signer.reports import ReportToSign
from fleet.signer.server import SignerServer
from fleet.stack import processes
from fleet.stack.process import spawn


def no_site(identity_id: int) -> Signable:
    raise NotFound("there is no such identity")


def no_documents(document_ids: Sequence[int]) -> dict[int, Document | DomainError]:
    return {pk: NotFound("there is no such document") for pk in document_ids}


@contextmanager
def signer_process(folder: Path) -> Iterator[Path]:
    """`manage.py signer` on the test's database, until the block ends; gives the path of its socket."""
    with TemporaryDirectory() as short:  # sockets want short paths
        socket = Path(short) / "signer.sock"
        environ = environment() | {
            "ARCHIPELAGO_SIGNER_SOCKET": str(socket),
            "ARCHIPELAGO_SIGNER_KEYS": str(folder / "signer-keys"),
        }
        with (folder / "signer.log").open("ab") as log:
            child = spawn(processes.signer(environ), log)
        try:
            while not socket.exists():
                assert child.poll() is None, (folder / "signer.log").read_text()
                time.sleep(0.05)
            yield socket
        finally:
            child.terminate()
            child.wait(20)


def environment() -> dict[str, str]:
    """For processes that work on the test's database."""
    name = connections["default"].settings_dict["NAME"]
    urls = ("DATABASE_URL", "DATABASE_OWNER_URL")
    return dict(os.environ) | {url: urlsplit(os.environ[url])._replace(path=f"/{name}").geturl() for url in urls}


@contextmanager
def signer_of_files(folder: Path) -> Iterator[Path]:
    """The signer's own reading of the database, in threads of this process; settings name its socket meanwhile."""
    with signer_of_reports(folder, _read) as socket, override_settings(SIGNER_SOCKET=socket):
        yield socket


def _read(file_id: int) -> ReportToSign:
    with signer.reading():
        return signer.read_report(file_id)


@contextmanager
def signer_of_reports(folder: Path, read_report: Callable[[int], ReportToSign]) -> Iterator[Path]:
    """Runs until the block ends; gives the path of its socket."""
    socket = folder / "reports.sock"
    with (
        closing(KeyStore(folder / "report-keys", "demo.example", lambda: datetime.now(tz=UTC))) as store,
        closing(Ledger(folder / "report-keys")) as ledger,
    ):
        limits = Limits(*(TokenBucket(10, 100) for _ in range(3)))
        answering = Signer(
            store, "demo.example", no_site, limits, ledger=ledger, read_documents=no_documents, read_report=read_report
        )
        server = SignerServer(socket, answering)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield socket
        finally:
            server.shutdown()
            server.close()
            thread.join()
