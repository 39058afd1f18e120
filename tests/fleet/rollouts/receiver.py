"""A receiver of webhooks on loopback, which keeps what it was sent and answers as it is told."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fleet.kit.tenancy import job, scope
from fleet.rollouts import hooks
from fleet.rollouts.models import WebhookEndpoint
from fleet.rollouts.models_webhooks import DeliveryState
from fleet.rollouts.services.outbox import delivery, new_message, text_of

TEST = job("test")


class Receiver:
    """`got` are (path, headers in lower case, body) of each request; `answers` come first, then 204."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], str]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.delay_s = 0.0
        self.url = ""
        self.port = 0

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """What the next request is answered."""
        self.answers.append((status, headers, body))

    def ids(self) -> list[str]:
        """Ids of messages in the order in which they came."""
        return [headers["webhook-id"] for _, headers, _ in self.got]


@contextmanager
def receiving(port: int = 0, tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    """A receiver that listens on 127.0.0.1 until the end."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("content-length", 0))
            body = self.rfile.read(size).decode()
            found.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            time.sleep(found.delay_s)
            status, headers, text = found.answers.pop(0) if found.answers else (204, {}, b"")
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

        def handle(self) -> None:
            with suppress(OSError):  # the caller had its deadline
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        server.daemon_threads = True
        found.port = server.server_address[1]
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        found.url = f"http{'s' if tls else ''}://127.0.0.1:{found.port}/hook"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def one_webhook(name: str = "own-hook") -> WebhookEndpoint:
    """An endpoint with a message that was given up, as rows alone."""
    with scope(TEST):
        row = WebhookEndpoint.objects.create(name=name, url="https://hooks.example.com/x", salt="x", made_by="test")
        made = delivery(
            row,
            new_message(),
            hooks.TEST,
            text_of(hooks.TEST, datetime.now(UTC), {"webhook": name}),
            now=datetime.now(UTC),
        )
        made.state, made.next_at = DeliveryState.GIVEN_UP, None
        made.save(force_insert=True)
    return row
