"""Desired state over real connections: a server in this loop, a real applier, clients in threads."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from agent.apply.applier import Applier
from agent.backends.host import HostBackend
from agent.identity import Identity
from agent.protocol import Desired, decode_report
from agent.protocol.desired import MAX_DOCUMENT_BYTES, DesiredStatus, PutBlob, PutDesired, digest
from agent.routes import MAX_REQUEST_BYTES
from tests.agent.apply.documents import Bench, sealed, workload
from tests.agent.factories import SITE
from tests.agent.test_server import Served, serve

BLOB = b"{}" + b" " * 299_998


class Site:
    """One served site."""

    def __init__(self, served: Served, bench: Bench, backend: HostBackend) -> None:
        self.served, self.bench, self.backend = served, bench, backend

    async def ask(self, method: str, target: str, body: bytes = b"", extra: str = "") -> tuple[int, bytes]:
        head = f"{method} {target} HTTP/1.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{extra}\r\n"
        got = await self.served.talk(head.encode() + body)
        first, _, answer = got.partition(b"\r\n\r\n")
        return int(first.split()[1]), answer

    async def put(self, body: bytes) -> PutDesired:
        status, answer = await self.ask("PUT", "/v1/desired", body)
        assert status == 200
        return msgspec.json.decode(answer, type=PutDesired)

    async def status(self) -> DesiredStatus:
        status, answer = await self.ask("GET", "/v1/desired")
        assert status == 200
        return msgspec.json.decode(answer, type=DesiredStatus)

    async def put_blob(self, name: str, data: bytes, content_range: str) -> PutBlob:
        status, answer = await self.ask("PUT", f"/v1/blobs/{name}", data, f"Content-Range: {content_range}\r\n")
        assert status == 200
        return msgspec.json.decode(answer, type=PutBlob)


@pytest.fixture
async def site(tmp_path: Path, identity: Identity, open_bench: Any) -> AsyncIterator[Site]:
    backend = HostBackend(SITE)
    bench: Bench = open_bench()
    loop = asyncio.get_running_loop()

    def published(site: UUID, desired: Desired) -> None:
        loop.call_soon_threadsafe(backend.set_desired, desired)

    bench.desk._published = published
    applier = Applier(bench.desk)
    applier.start()
    served = await serve(backend, desk=bench.desk)
    yield Site(served, bench, backend)
    await served.server.close()
    await asyncio.to_thread(applier.stop)


async def reaches(site: Site, state: str) -> DesiredStatus:
    for _ in range(200):
        status = await site.status()
        if status.state == state:
            return status
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {state}: {status}")


async def test_a_document_is_taken_applied_and_reported(site: Site) -> None:
    assert await site.status() == DesiredStatus(epoch=0, version=0, sha256=None, state="none")
    body = sealed(1, "a:1")
    assert await site.put(body) == PutDesired(state="accepted")
    status = await reaches(site, "applied")
    assert (status.epoch, status.version, status.sha256, status.hold) == (1, 1, digest(body), False)
    assert (status.done, status.total) == (3, 3)
    assert status.receipt is not None
    assert await site.put(body) == PutDesired(state="unchanged")
    assert site.bench.part.world() == {"a": "1"}
    report = decode_report((await site.ask("GET", "/v1/report"))[1])
    assert report.desired == Desired(1, 1, "applied")
    assert report.busy is None


async def test_blobs_come_first_and_in_pieces(site: Site) -> None:
    name = digest(BLOB)
    body = sealed(1, workloads=(workload("a", "1", config_sha256=name),))
    refused = await site.put(body)
    assert (refused.state, refused.reason, refused.blobs) == ("refused", "blobs_missing", (name,))
    assert await site.put_blob(name, BLOB[:256_000], "bytes 0-255999/300000") == PutBlob(state="partial", size=256_000)
    assert await site.put_blob(name, b"", "bytes */300000") == PutBlob(state="partial", size=256_000)
    stored = await site.put_blob(name, BLOB[256_000:], "bytes 256000-299999/300000")
    assert stored == PutBlob(state="stored", size=300_000)
    assert await site.put(body) == PutDesired(state="accepted")
    await reaches(site, "applied")


async def test_what_is_wrong_is_refused_and_changes_nothing(site: Site) -> None:
    good = sealed(1, "a:1")
    for body, reason in (
        (good[:-1], "signature"),
        (b"", "signature"),
        (b"x" * (MAX_DOCUMENT_BYTES + 1), "too_large"),
    ):
        assert (await site.put(body)).reason == reason
    assert (await site.status()).state == "none"
    assert site.bench.part.calls == []


async def test_bodies_are_bounded_each_by_its_route(site: Site) -> None:
    large = MAX_DOCUMENT_BYTES + MAX_REQUEST_BYTES
    assert (await site.ask("PUT", "/v1/desired", b"x" * large))[0] == 431
    assert (await site.ask("PUT", f"/v1/blobs/{digest(b'')}", b"x" * large))[0] == 431
    assert (await site.ask("PUT", "/v1/identity", b"x" * 20_000))[0] == 431
    assert (await site.ask("POST", "/v1/journal/ack", b"x" * 20_000))[0] == 431
    assert (await site.ask("GET", "/v1/report", b"", f"X: {'x' * 20_000}\r\n"))[0] == 431


async def test_methods_and_ranges(site: Site) -> None:
    assert (await site.ask("POST", "/v1/desired"))[0] == 405
    assert (await site.ask("GET", f"/v1/blobs/{digest(b'')}"))[0] == 405
    status, answer = await site.ask("PUT", f"/v1/blobs/{digest(b'')}", b"abc", "Content-Range: bytes 0-9/10\r\n")
    assert (status, b"Content-Range does not fit" in answer) == (400, True)
    status, answer = await site.ask("PUT", "/v1/blobs/..%2F..%2Fetc", b"abc")
    assert (status, msgspec.json.decode(answer)["state"]) == (200, "refused")


async def test_the_next_request_waits_for_the_answer(site: Site) -> None:
    body = sealed(1, "a:1")
    put = b"PUT /v1/desired HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    ask = b"GET /v1/desired HTTP/1.1\r\nConnection: close\r\n\r\n"
    got = await site.served.talk(put + ask)
    assert re.findall(rb"HTTP/1.1 (\d+)", got) == [b"400"]
    assert b"one request at a time" in got


async def test_an_agent_without_a_desk_says_so() -> None:
    served = await serve(HostBackend(SITE))
    got = await served.talk(b"GET /v1/desired HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b" 404 " in got.splitlines()[0]
    assert b"no_desired" in got
    await served.server.close()
