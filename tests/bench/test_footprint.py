"""The parts of the agent's own figure: a real agent, polled, whose probes find what the stand-in engine tells."""

from pathlib import Path
from uuid import uuid4

from agent.state import SOCKET
from agent.status import ask
from bench import footprint
from bench.stack import free_tcp_port, wait


def test_an_agent_is_polled_and_its_probes_look(tmp_path: Path) -> None:
    site, port = uuid4(), free_tcp_port()
    context = footprint._enrol(tmp_path, site)
    with footprint._engine(tmp_path / "engine.sock"), footprint._agent(tmp_path, port):
        poller = footprint._Poller(context, site, port)
        wait(poller.poll, 20, "the agent")
        assert poller.poll()

        def all_looked() -> bool:
            status = ask(tmp_path / "state" / SOCKET)
            return status is not None and all(probe.last_at is not None for probe in status.probes)

        wait(all_looked, 20, "the probes")
        status = ask(tmp_path / "state" / SOCKET)
        poller.close()
    assert status is not None
    assert len(status.probes) == footprint.CONTAINERS + 1
    assert {probe.last_state for probe in status.probes} == {"up"}
