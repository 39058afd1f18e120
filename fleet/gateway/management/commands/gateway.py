"""`manage.py gateway`: serve the sites that call in."""

import asyncio
import contextlib
import logging
import signal
from datetime import UTC, datetime
from typing import Any

import uvloop
from aiohttp import web
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from fleet.gateway.app import PATIENCE_S, Gateway, quiet
from fleet.kit import live, signing
from sites.agent_client import gateway_socket

logger = logging.getLogger(__name__)
SIGNER_WAIT_S = 1.0
RENEW_RETRY_S = 30.0


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT."""

    help = "Serve enrolment and renewal of sites over TLS."

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to listen."""
        parser.add_argument("--bind", default="127.0.0.1")
        parser.add_argument("--port", type=int, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        """See BaseCommand."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(options["bind"], options["port"]))


async def _serve(bind: str, port: int) -> None:
    logging.getLogger("aiohttp.server").addFilter(quiet)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    identity = await _certified(ended)
    if identity is None:
        return
    renewal = asyncio.create_task(_renew(identity))
    live.use_loop(loop)
    gateway = Gateway()
    runner = web.AppRunner(gateway.application(), access_log=None, keepalive_timeout=PATIENCE_S, lingering_time=1.0)
    await runner.setup()
    assert runner.server is not None
    await gateway.links.listen(gateway_socket(settings.GATEWAY_ID))
    leases = asyncio.create_task(gateway.keep_leases())
    server = await loop.create_server(  # for aiohttp's own sites do not bound the handshake
        runner.server, bind, port, ssl=identity.context, backlog=4096, ssl_handshake_timeout=PATIENCE_S
    )
    logger.info("gateway: sites may call in", extra={"bind": bind, "port": port})
    await ended.wait()
    live.use_loop(None)
    await gateway.links.close()
    for task in (renewal, leases):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    server.close()
    await runner.cleanup()


async def _certified(ended: asyncio.Event) -> signing.ServiceIdentity | None:
    """Our own certificate, as soon as there is a signer; None when we are to end before."""
    said = False
    while not ended.is_set():
        try:
            return await asyncio.to_thread(signing.service_context, "gateway")
        except (signing.SignerAway, signing.SignerRefused) as error:
            if not said:
                logger.warning("waiting for the signer: %s", error)
            said = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), SIGNER_WAIT_S)
    return None


async def _renew(identity: signing.ServiceIdentity) -> None:
    """Take another certificate at each half-life, into the same context."""
    issued = identity.issued
    while True:
        await asyncio.sleep(max(RENEW_RETRY_S, (issued.half_life - datetime.now(UTC)).total_seconds()))
        try:
            again = await asyncio.to_thread(signing.service_context, "gateway", identity.context)
            issued = again.issued
        except (signing.SignerAway, signing.SignerRefused) as error:
            logger.warning("the gateway's certificate is not renewed: %s", error)
