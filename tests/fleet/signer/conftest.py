"""A signer behind a real socket, in threads of this process, with a table of identities of its own."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from agent.protocol.desired import Document
from fleet.kit.errors import Conflict, DomainError, NotFound
from fleet.signer.keys import KeyStore
from fleet.signer.ledger import Ledger
from fleet.signer.operations import Limits, Signer, TokenBucket
from fleet.signer.server import SignerServer
from tests.fleet.signer.tls import new_key, public_der

FLEET = "demo.example"


@dataclass(frozen=True)
class Row:
    """What sites.selectors.identity.signable() gives."""

    uuid: UUID
    provider_id: int
    tls_key: bytes


@dataclass
class Running:
    """A signer that answers at `path`."""

    path: Path
    store: KeyStore
    signer: Signer
    server: SignerServer
    rows: dict[int, Row | Exception]
    documents: dict[int, Document | DomainError]


Start = Callable[..., Running]


def row(number: int, provider_id: int = 7) -> Row:
    return Row(UUID(int=number), provider_id, public_der(new_key()))


@pytest.fixture
def start(tmp_path: Path, settings) -> Iterator[Start]:
    """Starts signers; settings name the latest one's socket. Further arguments are SignerServer's."""
    with ExitStack() as stack:

        def begin(
            *, sites: float = 1000, services: float = 20, documents: float = 1000, offset_s: float = 0, **options
        ) -> Running:
            folder = tmp_path / f"signer-{len(list(tmp_path.iterdir()))}"
            store = KeyStore(folder / "keys", FLEET, lambda: datetime.now(tz=UTC))
            rows: dict[int, Row | Exception] = {1: row(1), 2: row(2), 3: Conflict("the identity is pending")}

            def read(identity_id: int) -> Row:
                found = rows.get(identity_id, NotFound("there is no such identity"))
                if isinstance(found, Exception):
                    raise found
                return found

            papers: dict[int, Document | DomainError] = {}

            def read_documents(document_ids: Sequence[int]) -> dict[int, Document | DomainError]:
                return {pk: papers.get(pk, NotFound("there is no such document")) for pk in document_ids}

            ledger = Ledger(folder / "keys")
            signer = Signer(
                store,
                FLEET,
                read,
                Limits(TokenBucket(0.001, sites), TokenBucket(0.001, services), TokenBucket(0.001, documents)),
                ledger=ledger,
                read_documents=read_documents,
                now=lambda: datetime.now(tz=UTC) + timedelta(seconds=offset_s),
            )
            path = folder / "signer.sock"
            server = SignerServer(path, signer, **options)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()

            def end() -> None:
                server.shutdown()
                server.close()
                ledger.close()
                store.close()

            stack.callback(end)
            settings.SIGNER_SOCKET = path
            return Running(path, store, signer, server, rows, papers)

        yield begin
