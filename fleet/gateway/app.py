"""The gateway's HTTP: what a site may ask before it has a certificate, or after its certificate has run out.

No client certificate is demanded here: an enrolment is proven by its join string, a renewal by the site's signing key.
Every answer but 200 is `{"error": {"code", "message"}}`. Work with the database and the signer runs in threads.
"""

import asyncio
import contextlib
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from django.conf import settings
from django.db import close_old_connections
from django.db.utils import InterfaceError, OperationalError

from agent.protocol import ProtocolError
from agent.protocol.identity import (
    MAX_IDENTITY_BYTES,
    Certificates,
    EnrolAnswer,
    EnrolRequest,
    NonceAnswer,
    Reason,
    Refusal,
    RenewRequest,
    RootsAnswer,
    decode_identity,
    encode_identity,
)
from fleet.gateway.links import HEARTBEAT_S, MAX_MESSAGE_BYTES, MOST_LINKS, Links
from fleet.gateway.throttle import Throttle
from fleet.kit import signing
from sites.services.dial_out import linked_site, renew_leases
from sites.services.enrolment import EnrolmentRefused, Presented, present_keys, record_certificates, renewable

logger = logging.getLogger(__name__)
T = TypeVar("T")
THREADS = 4
QUEUE_MOST = 2_000
# For a handshake, a request's head, and its body; idle connections end as soon.
PATIENCE_S = 10.0
NONCE_S = 120
LEASE_RENEW_S = 20.0
GATHER_S = 0.25
RETRY_S = 5.0
REFUSED_A_MINUTE = 30


class Gateway:
    """The handlers, and what they share."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="gateway")
        self._waiting = 0
        self._nonce_key = os.urandom(32)
        self._refusals = Throttle(limit=REFUSED_A_MINUTE, window_s=60.0)
        self._roots: signing.Roots | None = None
        self.links = Links()
        self._links_changed = asyncio.Event()

    def application(self) -> web.Application:
        """Routes, bounds and errors."""
        application = web.Application(client_max_size=MAX_IDENTITY_BYTES, middlewares=[self._errors])
        application.add_routes(
            [
                web.get("/agent/v1/roots", self.roots),
                web.get("/agent/v1/nonce", self.nonce),
                web.post("/agent/v1/enrol", self.enrol),
                web.post("/agent/v1/renew", self.renew),
                web.get("/agent/v1/link", self.link),
            ]
        )
        return application

    # Handlers -------------------------------------------------------------------------------------------------
    async def roots(self, request: web.Request) -> web.Response:
        """The fleet's roots; whoever asks compares a hash."""
        return _answer(RootsAnswer((await self._known_roots()).roots))

    async def nonce(self, request: web.Request) -> web.Response:
        """Something fresh to sign. Nothing is kept of it: it carries its time and our seal."""
        stamp = int(time.time()).to_bytes(8, "big") + os.urandom(8)
        return _answer(NonceAnswer(stamp + self._seal(stamp)))

    async def enrol(self, request: web.Request) -> web.Response:
        """Take keys, or say where they stand; with certificates once they are accepted."""
        asked = decode_identity(await _body(request), EnrolRequest)
        presented = await self._in_thread(present_keys, asked, remote=request.remote or "")
        return _answer(
            EnrolAnswer(
                state=presented.state,
                fingerprint=presented.fingerprint,
                detail=presented.detail,
                retry_s=RETRY_S,
                certificates=await self._certify(presented) if presented.state == "accepted" else None,
            )
        )

    async def renew(self, request: web.Request) -> web.Response:
        """A new certificate for a site that proves its signing key."""
        asked = decode_identity(await _body(request), RenewRequest)
        stamp, seal = asked.nonce[:16], asked.nonce[16:]
        age_s = time.time() - int.from_bytes(stamp[:8], "big")
        if not hmac.compare_digest(seal, self._seal(stamp)) or not -1 <= age_s <= NONCE_S:
            raise EnrolmentRefused("nonce", "The nonce is not ours or too old; ask for another.")
        identity_id = await self._in_thread(renewable, asked)
        return _answer(await self._issue(identity_id, "renew"))

    async def link(self, request: web.Request) -> web.StreamResponse:
        """A site that dials out stays connected; only with its valid certificate, whose key is the accepted one."""
        tls = request.transport.get_extra_info("ssl_object") if request.transport else None
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        if der is None:
            raise EnrolmentRefused("certificate", "A link needs the site's certificate.")
        if len(self.links) >= MOST_LINKS:
            raise web.HTTPServiceUnavailable
        name, site_id = await self._in_thread(linked_site, der)
        socket = web.WebSocketResponse(heartbeat=HEARTBEAT_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        await self.links.serve(name, site_id, socket, self._links_changed.set)
        return socket

    async def keep_leases(self) -> None:
        """For ever: say in the database which sites are linked here, at each change and well before it runs out."""
        linked: set[int] = set()
        while True:
            self._links_changed.clear()
            now = set(self.links.site_ids)
            try:
                refused = await self._in_thread(renew_leases, settings.GATEWAY_ID, now, linked - now)
                linked = now
                await self.links.end(refused)
            except Exception as error:  # noqa: BLE001  (the top of a task: without it every linked site is lost)
                logger.warning("leases are not renewed: %s", str(error).split("\n")[0])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._links_changed.wait(), LEASE_RENEW_S)
            await asyncio.sleep(GATHER_S)  # others will call in too

    # ----------------------------------------------------------------------------------------------------------
    async def _certify(self, presented: Presented) -> Certificates:
        return await self._issue(presented.identity_id, "enrol")

    async def _issue(self, identity_id: int, route: str) -> Certificates:
        """Have the signer certify an accepted identity, and write down what it made before it is handed out."""

        def issue() -> signing.Issued:
            issued = signing.issue_site(identity_id)
            if not record_certificates([(identity_id, issued)], route=route):
                raise EnrolmentRefused("frozen", "The identity of this site was frozen or ended just now.")
            return issued

        issued = await self._in_thread(issue)
        roots = await self._known_roots()
        return Certificates(
            gateway=settings.GATEWAY_ADDRESS,
            chain=issued.chain_pem,
            roots=roots.roots,
            fleet=roots.fleet,
            documents=roots.documents,
        )

    async def _known_roots(self) -> signing.Roots:
        if self._roots is None:
            self._roots = await self._in_thread(signing.roots)
        return self._roots

    def _seal(self, stamp: bytes) -> bytes:
        return hmac.digest(self._nonce_key, stamp, hashlib.sha256)

    async def _in_thread(self, work: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Do blocking work in one of few threads; above QUEUE_MOST waiting, say so instead of piling up."""
        if self._waiting >= QUEUE_MOST:
            raise web.HTTPServiceUnavailable

        def do() -> T:
            close_old_connections()
            return work(*args, **kwargs)

        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, do)
        finally:
            self._waiting -= 1

    @web.middleware
    async def _errors(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Every failure in the one shape; whoever is refused too often must wait."""
        caller = request.remote or ""
        if self._refusals.is_full(caller):
            return _refusal(429, "slow_down", "Too many refused requests from this address; wait a minute.")
        try:
            return await handler(request)
        except EnrolmentRefused as error:
            self._refusals.count(caller)
            logger.warning("refused: %s", error.code, extra={"path": request.path, "from": caller})
            return _refusal(403, error.code, error.message)
        except ProtocolError as error:
            self._refusals.count(caller)
            return _refusal(400, "malformed", error.reason)
        except signing.SignerRefused:
            return _refusal(503, "signer", "The centre cannot certify this site now; it will be tried again.")
        except (signing.SignerAway, OperationalError, InterfaceError) as error:
            logger.warning("not now: %s", str(error).split("\n")[0], extra={"path": request.path})
            return _refusal(503, "unavailable", "The centre cannot answer now; try again.")
        except web.HTTPRequestTimeout as error:
            slow = _refusal(error.status, "http", error.reason)
            slow.force_close()
            return slow
        except web.HTTPException as error:
            return _refusal(error.status, "http", error.reason)
        except Exception:  # the top of a request
            logger.exception("the gateway failed", extra={"path": request.path})
            return _refusal(500, "internal", "Something broke on our side; it was logged.")


def quiet(record: logging.LogRecord) -> bool:
    """A filter for aiohttp's own log: that a stranger speaks no HTTP is no error of ours, and worth no traceback."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _body(request: web.Request) -> bytes:
    """All of it, in time. Raises HTTPRequestTimeout."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout from None


def _answer(message: Any) -> web.Response:
    return web.Response(body=encode_identity(message), content_type="application/json")


def _refusal(status: int, code: str, message: str) -> web.Response:
    body = encode_identity(Refusal(Reason(code, message)))
    return web.Response(status=status, body=body, content_type="application/json")
