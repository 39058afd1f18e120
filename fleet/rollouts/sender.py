"""Sends messages to webhooks: the address is resolved once, vetted, and the vetted one is called; nothing is followed.

A receiver is a stranger that we call: it may be slow, huge, hostile, or lead to our own services. So each try has one
deadline for all of it, what is read of the answer is bounded, and only public addresses are called.
"""

import asyncio
import ipaddress
import logging
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from typing import Final

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings
from yarl import URL

from fleet.rollouts.hooks import UrlError, host_of, signature
from fleet.rollouts.services.sending import Sending, Told, claim, record_told
from sites.addresses import Address, Network, Vetting, networks, resolve
from sites.poller import default_vetting
from sites.wire import WireError

logger = logging.getLogger(__name__)
TOTAL_S: Final = 10.0
CONNECT_S: Final = 4.0
ANSWER_BYTES: Final = 2048
BODY_S: Final = 2.0
AT_ONCE: Final = 40


class PublicOnly(Vetting):
    """Public addresses that are not our own, and networks that the settings allow."""

    def problem(self, address: Address, allowed: Sequence[Network]) -> str | None:
        """Why the address may not be called, or None."""
        if super().problem(address, ()) is None:
            return None
        return "it is no public address, and no network of ARCHIPELAGO_WEBHOOK_NETWORKS_ALLOWED"


class LoopbackOnly(Vetting):
    """For http, which development may use on one machine."""

    def problem(self, address: Address, allowed: Sequence[Network]) -> str | None:
        """Why the address may not be called, or None."""
        return None if address.is_loopback else "http is for this machine alone; use https"


class _Vetted(AbstractResolver):
    """Names lead to the one address that was vetted; nothing is looked up again."""

    def __init__(self, ip: str) -> None:
        self.ip = ip

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The vetted address."""
        kind = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
        return [
            ResolveResult(hostname=host, host=self.ip, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
        ]

    async def close(self) -> None:
        """Nothing is held."""


def vetting() -> PublicOnly:
    """From the settings: allowed networks, and what is our own."""
    own = default_vetting().own
    return PublicOnly(exceptions=networks(settings.WEBHOOK_NETWORKS_ALLOWED), own=own)


def send_due() -> int:
    """Send what is due, all at once, and write down how each try went as soon as it is over. Returns how many."""
    due = claim()
    if not due:
        return 0
    rules, context = vetting(), ssl.create_default_context()
    with ThreadPoolExecutor(max_workers=AT_ONCE, thread_name_prefix="webhook") as pool:
        tries = {pool.submit(try_once, sending, rules, context): sending for sending in due}
        for done in as_completed(tries):
            record_told(tries[done], done.result())
    return len(due)


def try_once(sending: Sending, rules: Vetting, context: ssl.SSLContext) -> Told:
    """One try. Never raises for anything that an address, a name server, a network or a receiver does."""
    began = time.monotonic()

    def told(**values: object) -> Told:
        return Told(latency_ms=round((time.monotonic() - began) * 1000), **values)  # type: ignore[arg-type]

    try:
        return asyncio.run(_within(sending, rules, context, told))
    except TimeoutError:
        return told(problem=f"It did not answer within {TOTAL_S:g} s.")
    except (UrlError, WireError) as error:
        return told(problem=error.detail if isinstance(error, WireError) else str(error))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return told(problem=f"It could not be reached: {error or type(error).__name__}")
    except Exception as error:  # a message that cannot be sent must not hold up the others
        logger.exception("a webhook could not be sent", extra={"message": sending.message})
        return told(problem=f"Something broke on our side: {type(error).__name__}")


async def _within(sending: Sending, rules: Vetting, context: ssl.SSLContext, told: Callable[..., Told]) -> Told:
    async with asyncio.timeout(TOTAL_S):
        target, ip = await _target(sending.url, rules)
        connector = aiohttp.TCPConnector(resolver=_Vetted(ip), ssl=context, force_close=True, use_dns_cache=False)
        async with (
            aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=TOTAL_S, sock_connect=CONNECT_S),
                trust_env=False,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as session,
            session.post(
                target, data=sending.body.encode(), headers=headers_of(sending), allow_redirects=False
            ) as answer,
        ):
            is_redirect = answer.status // 100 == 3
            problem = "Redirects are not followed; give the address that it leads to." if is_redirect else ""
            return told(status=answer.status, answer=await _excerpt(answer), problem=problem)


async def _excerpt(answer: aiohttp.ClientResponse) -> str:
    """How the body begins; a body that does not come takes nothing from the status."""
    with suppress(TimeoutError, aiohttp.ClientError):
        async with asyncio.timeout(BODY_S):
            body = await answer.content.read(ANSWER_BYTES)
            return body.decode(errors="replace").replace("\x00", "")
    return ""


async def _target(url: str, rules: Vetting) -> tuple[URL, str]:
    """The address as it is called, and the vetted IP. Raises UrlError, WireError."""
    host, port = host_of(url, http=settings.WEBHOOK_HTTP_LOOPBACK)
    target = URL(url, encoded=True)
    # An IP that only one of two readers of addresses sees would be called without being vetted.
    if _plain(target.host or "") != _plain(host):
        raise UrlError("That is no address.")
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    rules = LoopbackOnly() if target.scheme == "http" else rules
    ip, _ = await resolve(asyncio.get_running_loop(), where, rules, ())
    return target, ip


def _plain(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()


def headers_of(sending: Sending) -> dict[str, str]:
    """Headers of a message: those of the Standard Webhooks specification, one signature a secret."""
    timestamp = int(sending.at.timestamp())
    signed = (signature(secret, sending.message, timestamp, sending.body) for secret in sending.secrets)
    return {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": "Archipelago-Webhooks/1",
        "webhook-id": sending.message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signed),
    }
