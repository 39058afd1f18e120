"""The embedded Redis, for real."""

import stat

import psutil
import redis as client

from fleet.stack.process import spawn, stop
from fleet.stack.redis import Broker
from fleet.stack.state import State


def test_it_answers_on_its_socket_alone_and_keeps_nothing(state: State) -> None:
    broker = Broker(state)
    program, log = broker.prepare(), state.logs / "redis.log"
    with log.open("wb") as file:
        child = spawn(program, file)
    try:
        broker.wait_ready(child, log.read_text)
        assert stat.S_IMODE(broker.socket_path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(broker.socket_path.stat().st_mode) == 0o700
        assert [c for c in psutil.Process(child.pid).net_connections() if c.laddr] == []
        with client.Redis.from_url(broker.url) as connection:
            assert connection.config_get("save") == {"save": ""}
            assert connection.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            connection.set("kept", "no")
    finally:
        stop(child, program)
    assert child.returncode == 0
    assert [path.name for path in broker.socket_path.parent.iterdir()] == []
