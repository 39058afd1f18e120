"""Three hundred clients that never finish what they say to an agent (matrix row 11): the centre is answered."""

import time
from pathlib import Path

import psutil

from agent.protocol import decode_report
from agent.protocol.identity import site_name
from tests.agent.factories import SITE
from tests.agent.wire import Client, free_port, keep, start_agent, stop, wait_for_line
from tests.loris import Loris, besiege, client_hello
from tests.pki import Fleet

ADDRESS = "127.122.0.7"
HEAD = b"POST /v1/journal/ack HTTP/1.1\r\nhost: s\r\ncontent-type: application/json\r\n"


def test_three_hundred_dawdlers_end_and_the_centre_is_answered_meanwhile(tmp_path: Path) -> None:
    port, fleet = free_port(), Fleet()
    name = site_name(fleet.name, 1, SITE)
    state = keep(tmp_path, fleet.site(SITE))
    process = start_agent("run", "--listen", f"{ADDRESS}:{port}", "--site", str(SITE), "--state", str(state))
    wait_for_line(process, "answers for site")
    kinds = [
        Loris("silent"),
        Loris("hello", speaks=client_hello()),
        Loris("stranger", speaks=HEAD, tls=fleet.caller(None), host=name),
        Loris("site", speaks=HEAD, tls=fleet.caller(fleet.site(SITE)), host=name),
    ]
    waits_s: list[float] = []
    memory = psutil.Process(process.pid).memory_info
    before_mib = memory().rss / 2**20
    with Client(ADDRESS, port, tls=fleet.dashboard, name=name) as kept:

        def poll() -> None:
            """Over the kept connection, and over one more."""
            for client in (kept, Client(ADDRESS, port, tls=fleet.dashboard, name=name)):
                began_s = time.monotonic()
                assert decode_report(client.get().body).site == SITE
                waits_s.append(time.monotonic() - began_s)
                if client is not kept:
                    client.sock.close()

        borne_s = besiege((ADDRESS, port), kinds, each=75, meanwhile=poll, limit_s=30)
    assert borne_s["stranger"] < 3  # whoever is not the dashboard is not borne at all
    assert borne_s["site"] < 3
    assert 9 < borne_s["silent"] < 12
    assert 9 < borne_s["hello"] < 12
    assert len(waits_s) > 20
    assert sorted(waits_s)[len(waits_s) // 2] < 0.2
    assert memory().rss / 2**20 - before_mib < 40
    status, _, err = stop(process)
    assert (status, err) == (0, "")
