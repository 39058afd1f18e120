"""A real gateway and a real signer, each its own process, on the test database."""

import http.client
import json
import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from django.conf import settings

from agent.calling import Gateway, trusted
from agent.identity import Identity, Keys
from agent.protocol.identity import EnrolRequest, RenewRequest, encode_identity
from fleet.kit import signing
from fleet.stack import processes
from sites.models import Site
from tests.flows.system import System, wait_for

_addresses = count(1)


class Caller(Gateway):
    """The agent's own client, from an address that one may choose: refusals are counted for each."""

    def __init__(self, context: ssl.SSLContext, source: str) -> None:
        super().__init__(settings.GATEWAY_ADDRESS, settings.FLEET_NAME, context)
        self.source = source

    def _connect(self) -> http.client.HTTPConnection:
        raw = socket.create_connection((self._host, self._port), 10, source_address=(self.source, 0))
        connection = http.client.HTTPConnection(self._host, self._port, timeout=10)
        try:
            connection.sock = self._context.wrap_socket(raw, server_hostname=self._name)
        except BaseException:
            raw.close()
            raise
        return connection

    def send(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Status and JSON of one request on a connection of its own."""
        connection = self._connect()
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def post(self, message: EnrolRequest | RenewRequest) -> tuple[int, Any]:
        """Status and JSON of an enrolment or a renewal."""
        path = "/agent/v1/enrol" if isinstance(message, EnrolRequest) else "/agent/v1/renew"
        return self.send("POST", path, encode_identity(message))

    def code(self, message: EnrolRequest | RenewRequest) -> tuple[int, str]:
        """Status and code of a refusal."""
        status, answer = self.post(message)
        return status, answer["error"]["code"]


@dataclass
class Centre:
    """The running processes."""

    system: System
    roots: signing.Roots
    callers: list[Caller] = field(default_factory=list)

    def caller(self, context: ssl.SSLContext | None = None) -> Caller:
        """One at an address that nobody has called from."""
        number = next(_addresses)
        made = Caller(context or trusted(self.roots.roots), f"127.88.{number // 250}.{number % 250 + 1}")
        self.callers.append(made)
        return made

    def enrolled(self, site: Site, secret: bytes) -> Identity:
        """The site with keys and certificates of its own."""
        identity = Identity(site.uuid, Keys.make())
        answer = self.caller().enrol(identity, secret, host="host-1")
        assert answer.certificates is not None
        return identity.with_certificates(answer.certificates)


@pytest.fixture(scope="module")
def running(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    before = settings.SIGNER_SOCKET, settings.GATEWAY_ADDRESS
    with ExitStack() as stack:
        system = System(stack, tmp_path_factory.mktemp("gateway"))
        system.environ["REDIS_URL"] = os.environ["REDIS_URL"]
        system.start_identity()
        roots = signing.roots()
        centre = Centre(system, roots)
        wait_for(lambda: _answers(centre), what="the gateway")
        yield centre
    settings.SIGNER_SOCKET, settings.GATEWAY_ADDRESS = before


@pytest.fixture
def centre(running: Centre, database: None) -> Iterator[Centre]:
    """The running processes, on an empty database."""
    yield running
    while running.callers:
        running.callers.pop().close()


def _answers(centre: Centre) -> bool:
    try:
        return centre.caller().send("GET", "/agent/v1/roots")[0] == 200
    except OSError:
        return False


def restart_signer(centre: Centre) -> None:
    """Start it again, after kill()."""
    centre.system.run(processes.signer(centre.system.environ))
    wait_for(_signs, what="the signer")


def _signs() -> bool:
    try:
        return bool(signing.roots().roots)
    except signing.SignerAway:
        return False
