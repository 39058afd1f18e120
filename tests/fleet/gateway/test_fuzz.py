"""Whatever a site or a stranger says to the gateway: refused in order, and an honest site gets in afterwards."""

import json
import socket
import ssl
from typing import Any

import pytest
from django.conf import settings as django_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from agent.calling import trusted
from agent.identity import Identity, Keys
from agent.protocol.identity import NonceAnswer, decode_identity, encode_identity, service_name
from tests.fleet.gateway.conftest import Centre
from tests.sites.joined import join, request_of

EXAMPLES = [40, pytest.param(1_000, marks=pytest.mark.full)]
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=60), st.binary(max_size=60).map(bytes.hex)
)
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4))
PATHS = st.sampled_from(["enrol", "renew", "nonce", "roots", "link", "enrol/x", ""])


def bounded(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, suppress_health_check=QUIET)


def assert_in_order(centre: Centre, make_site: Any) -> None:
    """No fault of ours was logged, and an honest site is enrolled."""
    assert "Traceback" not in centre.system.log("gateway").read_text()
    site = make_site()
    centre.enrolled(site, join(site, pre_authorised=True))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_json_of_any_shape(centre: Centre, make_site: Any, examples: int) -> None:
    @bounded(examples)
    @given(path=PATHS, method=st.sampled_from(["POST", "POST", "GET", "PUT"]), body=JSON)
    def send(path: str, method: str, body: Any) -> None:
        caller = centre.caller()  # from an address of its own, for those who are refused too often must wait
        status, _ = caller.send(method, f"/agent/v1/{path}", json.dumps(body).encode())
        assert status < 500
        assert (status == 200) == (method == "GET" and path in {"nonce", "roots"})

    send()
    assert_in_order(centre, make_site)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_right_shapes_with_wrong_values(centre: Centre, make_site: Any, examples: int) -> None:
    site = make_site()
    identity = Identity(site.uuid, Keys.make())
    enrol = json.loads(encode_identity(request_of(site, join(site), identity)))
    nonce = json.dumps(centre.caller().send("GET", "/agent/v1/nonce")[1]).encode()
    renew = json.loads(encode_identity(identity.renew_request(decode_identity(nonce, NonceAnswer).nonce)))

    @bounded(examples)
    @given(data=st.data())
    def send(data: st.DataObject) -> None:
        path, message = data.draw(st.sampled_from([("enrol", enrol), ("renew", renew)]))
        name = data.draw(st.sampled_from(sorted(message)))
        value = data.draw(JSON)
        changed = message | {name: value}
        status, answer = centre.caller().send("POST", f"/agent/v1/{path}", json.dumps(changed).encode())
        assert status < 500
        if name not in {"host", "agent"}:
            assert status in {400, 403}, (name, value, answer)

    send()
    assert_in_order(centre, make_site)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_frames_of_a_linked_site(centre: Centre, make_site: Any, examples: int) -> None:
    """A site that has joined, and then sends what it likes through its link."""
    site = make_site()
    identity = centre.enrolled(site, join(site, pre_authorised=True))
    assert identity.certificates is not None
    context = trusted(identity.certificates.roots, identity)
    frames = st.lists(st.one_of(st.binary(max_size=5_000), st.text(max_size=200), st.just("closed")), max_size=8)

    @bounded(examples)
    @given(messages=frames)
    def send(messages: list[bytes | str]) -> None:
        with _link(context) as linked:
            for message in messages:
                linked.send(message)
            assert linked.ping().wait(5)

    send()
    with pytest.raises(WebSocketException), _link(context) as linked:
        linked.send(b"x" * (3 << 20))
        linked.recv(timeout=10)
    assert_in_order(centre, make_site)


def _link(context: ssl.SSLContext) -> Any:
    host, _, port = django_settings.GATEWAY_ADDRESS.partition(":")
    name = service_name(django_settings.FLEET_NAME, "gateway")
    url = f"wss://{name}:{port}/agent/v1/link"
    raw = socket.create_connection((host, int(port)), 10)
    return connect(url, sock=raw, ssl=context, server_hostname=name, compression=None, proxy=None)
