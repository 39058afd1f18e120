"""Three hundred clients that never finish what they say to the gateway (matrix row 11): each ends, nobody waits."""

import time

from django.conf import settings

from agent.calling import trusted
from agent.protocol.identity import service_name
from tests.fleet.gateway.conftest import Centre
from tests.loris import Loris, besiege, client_hello

HEAD = b"POST /agent/v1/enrol HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"


def test_three_hundred_dawdlers_end_at_ten_seconds_and_others_do_not_wait(centre: Centre) -> None:
    host, _, port = settings.GATEWAY_ADDRESS.partition(":")
    tls, name = trusted(centre.roots.roots), service_name(settings.FLEET_NAME, "gateway")
    kinds = [
        Loris("silent"),
        Loris("hello", speaks=client_hello()),
        Loris("head", speaks=HEAD, tls=tls, host=name),
        Loris("body", speaks=b"{" * 200, greeting=HEAD + b"content-length: 200\r\n\r\n", tls=tls, host=name),
    ]
    waits_s: list[float] = []
    caller = centre.caller()

    def ask() -> None:
        began_s = time.monotonic()
        assert caller.send("GET", "/agent/v1/nonce")[0] == 200
        waits_s.append(time.monotonic() - began_s)

    before_mib = centre.system.rss_mib("gateway")
    borne_s = besiege((host, int(port)), kinds, each=75, meanwhile=ask, limit_s=40)
    assert all(9 < seconds < 13 for seconds in borne_s.values()), borne_s
    assert len(waits_s) > 20
    assert sorted(waits_s)[len(waits_s) // 2] < 0.5
    assert centre.system.rss_mib("gateway") - before_mib < 60
    assert "Traceback" not in centre.system.log("gateway").read_text()
