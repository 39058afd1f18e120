"""A gateway for tests of agents: real TLS and HTTP, answers as the test wants them."""

import http.server
import socket
import ssl
import threading
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from agent.identity import Identity, load_chain
from agent.protocol.identity import (
    EnrolAnswer,
    EnrolRequest,
    Join,
    NonceAnswer,
    Reason,
    Refusal,
    RenewRequest,
    RootsAnswer,
    decode_identity,
    encode_identity,
)
from fleet.signer.authority import certify_site
from tests.pki import Fleet, now

Answer = tuple[int, bytes]


def refusal(code: str, status: int = 403) -> Answer:
    return status, encode_identity(Refusal(Reason(code, f"because of {code}")))


class FakeGateway:
    """Serves until close(). Its handlers may be replaced; `asked` holds the messages that came.

    `shows` is the identity in its certificate, if another than the fleet's gateway.
    """

    def __init__(self, fleet: Fleet, shows: Identity | None = None) -> None:
        self.fleet = fleet
        self.roots: tuple[str, ...] = (fleet.root.pem,)
        self.asked: list[EnrolRequest | RenewRequest] = []
        self.connections = 0
        self.enrol: Callable[[EnrolRequest], Answer] = self.accept
        self.renew: Callable[[RenewRequest], Answer] = self.certify
        self.keep = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        load_chain(context, shows or fleet.service("gateway"))
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 5

            def do_GET(self) -> None:
                self._send(outer._get(self.path))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._send(outer._post(self.path, body))

            def _send(self, answer: Answer) -> None:
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])
                if not outer.keep:
                    self.close_connection = True  # without a word, as a gateway that is restarted

            def log_message(self, *_: Any) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> tuple[socket.socket, Any]:
                outer.connections += 1
                return super().get_request()

            def finish_request(self, request: Any, client_address: Any) -> None:
                with context.wrap_socket(request, server_side=True) as tls:
                    super().finish_request(tls, client_address)

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"127.0.0.1:{self._server.server_port}"
        fleet.gateway = self.endpoint
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def join(self, site: Any, **fields: Any) -> Join:
        """A join string's content for the site."""
        root = sha256(ssl.PEM_cert_to_DER_cert(self.fleet.root.pem)).digest()
        values = {"gateway": self.endpoint, "fleet": self.fleet.name, "site": site, "secret": b"s" * 32}
        return Join(**{**values, "root_sha256": root, **fields})

    # Answers --------------------------------------------------------------------------------------------------
    def accept(self, request: EnrolRequest) -> Answer:
        """Accepted at once."""
        return self.standing("accepted", request)

    def standing(self, state: Any, request: EnrolRequest) -> Answer:
        """That far."""
        certificates = self._certify(request) if state == "accepted" else None
        return 200, encode_identity(
            EnrolAnswer(state=state, fingerprint="f", retry_s=0.1, detail="why", certificates=certificates)
        )

    def certify(self, request: RenewRequest) -> Answer:
        """A new certificate."""
        return 200, encode_identity(self._certify(request))

    def _certify(self, request: EnrolRequest | RenewRequest) -> Any:
        issued = certify_site(
            self.fleet.issuer(),
            fleet=self.fleet.name,
            provider_id=1,
            site=request.site,
            tls_key=request.tls_key,
            now=now(),
        )
        return self.fleet.certificates(issued.chain_pem)

    def _get(self, path: str) -> Answer:
        if path == "/agent/v1/roots":
            return 200, encode_identity(RootsAnswer(self.roots))
        return 200, encode_identity(NonceAnswer(b"n" * 48))

    def _post(self, path: str, body: bytes) -> Answer:
        if path == "/agent/v1/enrol":
            enrolment = decode_identity(body, EnrolRequest)
            self.asked.append(enrolment)
            return self.enrol(enrolment)
        renewal = decode_identity(body, RenewRequest)
        self.asked.append(renewal)
        return self.renew(renewal)
