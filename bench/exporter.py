"""The peer's sites: one port that answers /metrics as 32 series at every address of 127.64.0.0/10, over mutual TLS.

`python -m bench.exporter PORT FOLDER`, which holds root.pem, server.pem (chain) and server.key. It costs its machine as
little as it can, so that only the scraper is measured:
a body is made every REFRESH_S for each of VARIANTS sites and shared by those after it. /count says how often.
"""

import asyncio
import gc
import ssl
import sys
from pathlib import Path
from random import Random

import uvloop

from agent.listening import bind_block

SERIES = 32
WORKLOADS = ("pos", "inventory", "cache", "camera")
VARIANTS = 256
REFRESH_S = 2.0


class Variant:
    """One site's figures: a load that wanders, counters that grow with it."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._load = self._random.random()
        self._counter = self._random.randrange(2**40)

    def body(self) -> bytes:
        """What a report says, as series: resources, verdict, clock and journal, identities, four workloads."""
        load = self._load = min(1.0, max(0.0, self._load + self._random.uniform(-0.05, 0.05)))
        self._counter += int(load * 1_000_000 * REFRESH_S)
        figures: dict[str, float] = {
            "site_cpu_count": 8,
            "site_cpu_ratio": round(load, 4),
            "site_load1": round(load * 8.6, 2),
            "site_mem_bytes": int(load * 32 * 2**30),
            "site_mem_total_bytes": 32 * 2**30,
            "site_disk_bytes": int((0.3 + load / 3) * 2**40),
            "site_disk_total_bytes": 2**40,
            "site_net_rx_bytes_total": self._counter,
            "site_net_tx_bytes_total": self._counter // 3,
            "site_temp_celsius": round(40 + 30 * load, 1),
            "site_power_watts": round(60 + 90 * load, 1),
            "site_state": 0,
            "site_mono_ms": self._counter // 1000,
            "site_journal_seq": 0,
            'site_components_info{digest="sha256:0f3a9c"}': 1,
            'site_boot_info{boot="3f6c1c1e-7f2d-4c55-9d0a-0a4c8a1f2b10"}': 1,
        }
        for number, name in enumerate(WORKLOADS, 1):
            figures |= {
                f'workload_cpu_ratio{{name="{name}"}}': round(load / number, 4),
                f'workload_mem_bytes{{name="{name}"}}': int((0.5 + load / 3) * 2**31),
                f'workload_mem_limit_bytes{{name="{name}"}}': 2**31,
                f'workload_restarts{{name="{name}"}}': 0,
            }
        assert len(figures) == SERIES
        return "".join(f"{name} {value}\n" for name, value in figures.items()).encode()


class Exporter:
    """The variants' figures as responses, and how many were asked for."""

    def __init__(self) -> None:
        self.scrapes = 0
        self.connections = 0
        self._variants = [Variant(number) for number in range(VARIANTS)]
        self._responses: list[bytes] = []
        self.refresh()

    def refresh(self) -> None:
        """New figures for all variants: time goes on, as it does at a real site."""
        self._responses = [_response(variant.body()) for variant in self._variants]

    def response(self, number: int) -> bytes:
        """The response to one more scrape of the connection with this number."""
        self.scrapes += 1
        return self._responses[number % VARIANTS]


class Connection(asyncio.Protocol):
    """A kept-alive connection; requests come one at a time and whole, as Prometheus sends them."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter
        self._number = exporter.connections
        self._request = b""
        exporter.connections += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream transport, as promised

    def data_received(self, data: bytes) -> None:
        """Answer when the blank line has come."""
        self._request += data
        if not self._request.endswith(b"\r\n\r\n"):
            return
        asks_count = self._request.startswith(b"GET /count ")
        self._request = b""
        self._transport.write(
            _response(b"%d" % self._exporter.scrapes) if asks_count else self._exporter.response(self._number)
        )


def _response(body: bytes) -> bytes:
    head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


async def serve(port: int, folder: Path) -> None:
    """Serve for ever."""
    exporter = Exporter()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_3
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(folder / "root.pem")
    tls.load_cert_chain(folder / "server.pem", folder / "server.key")
    loop = asyncio.get_running_loop()
    for sock in bind_block(["127.64.0.1"], port):
        await loop.create_server(lambda: Connection(exporter), sock=sock, backlog=16_384, ssl=tls)
    print("ready", flush=True)
    gc.freeze()
    while True:
        await asyncio.sleep(REFRESH_S)
        exporter.refresh()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1]), Path(sys.argv[2])))
