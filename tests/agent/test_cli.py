import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from agent.cli import main
from agent.listening import bind_block
from agent.protocol import decode_report
from agent.protocol.identity import Join, site_name, write_join
from agent.state import JOURNAL
from tests.agent.factories import SITE
from tests.agent.wire import (
    DEADLINE_S,
    ROOT,
    Client,
    Simulator,
    free_port,
    is_alive,
    keep,
    site_spec,
    start_agent,
    stop,
    until,
    wait_for_line,
    write_fleet,
)
from tests.pki import FLEET, NOWHERE, Fleet

ADDRESS = "127.122.0.1"


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command which cannot do its work prints."""
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith("archipelago-agent: ")
    assert err.count("\n") == 1
    return err


def run(port: int, state: Path, *, address: str = ADDRESS) -> list[str]:
    """A command line."""
    return ["run", "--listen", f"{address}:{port}", "--site", str(SITE), "--state", str(state)]


class TestRun:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_answers_and_ends_cleanly(self, number: int, tmp_path: Path) -> None:
        port, fleet = free_port(), Fleet()
        state = keep(tmp_path, fleet.site(SITE))
        process = start_agent(*run(port, state))
        assert f" {ADDRESS}:{port}/v1/report" in wait_for_line(process, "answers for site")
        with Client(ADDRESS, port, tls=fleet.dashboard, name=site_name(fleet.name, 1, SITE)) as client:
            assert decode_report(client.get().body).site == SITE
            status, _, err = stop(process, number)
            assert client.closed()
        assert (status, err) == (0, "")

    def test_a_taken_port_is_one_clear_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with socket.create_server((ADDRESS, 0)) as taken:
            port = taken.getsockname()[1]
            said = complaint(capsys, *run(port, tmp_path))
        assert said == f"archipelago-agent: cannot listen on {ADDRESS}:{port}: address already in use\n"
        assert not (tmp_path / JOURNAL).exists()

    def test_an_address_of_another_machine_is_one_clear_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        said = complaint(capsys, *run(9100, tmp_path, address="192.0.2.1"))
        assert said == "archipelago-agent: cannot listen on 192.0.2.1:9100: cannot assign requested address\n"

    def test_a_state_folder_that_cannot_be_used_is_one_clear_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "file").touch()
        said = complaint(capsys, *run(free_port(), tmp_path / "file"))
        assert said == f"archipelago-agent: {tmp_path}/file cannot be used: file exists\n"

    @pytest.mark.parametrize("join", ["", "hello", "archipelago1.AAAA", "archipelago1." + "x" * 3_000])
    def test_a_damaged_join_string_is_one_clear_line(
        self, join: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "join").write_text(join)
        said = complaint(capsys, *run(free_port(), tmp_path), "--join-file", str(tmp_path / "join"))
        assert "join string" in said

    def test_another_sites_join_string_is_refused_before_a_key_is_shown(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        other = UUID(int=7)
        join = Join(gateway=NOWHERE, fleet=FLEET, site=other, secret=b"s" * 32, root_sha256=b"r" * 32)
        (tmp_path / "join").write_text(write_join(join))
        said = complaint(capsys, *run(free_port(), tmp_path), "--join-file", str(tmp_path / "join"))
        assert said == f"archipelago-agent: the join string is for site {other}, not {SITE}\n"

    def test_a_site_that_has_not_enrolled_answers_nobody(self, tmp_path: Path) -> None:
        port, fleet = free_port(), Fleet()
        process = start_agent(*run(port, tmp_path))
        assert process.stdout is not None
        lines = process.stdout.readline() + process.stdout.readline()  # in either order: a thread says the second
        assert "answers for site" in lines
        assert "it has not enrolled, and has no join string" in lines
        name = site_name(fleet.name, 1, SITE)
        with pytest.raises(OSError), Client(ADDRESS, port, tls=fleet.dashboard, name=name):  # noqa: PT011  # any end
            pass
        with Client(ADDRESS, port) as plain:
            plain.send()
            assert plain.drain(1_000)[:1] != b"H"
        status, _, err = stop(process)
        assert (status, err) == (0, "")

    def test_it_ends_with_its_parent(self, tmp_path: Path) -> None:
        port = free_port()
        command = [sys.executable, "-m", "agent", *run(port, tmp_path)]
        code = f"import subprocess, time; p = subprocess.Popen({command!r}); print(p.pid, flush=True); time.sleep(60)"
        environment = {**os.environ, "ARCHIPELAGO_DIE_WITH_PARENT": "1"}
        parent = subprocess.Popen(
            [sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        while "answers for site" not in parent.stdout.readline():
            pass
        parent.kill()
        parent.wait(DEADLINE_S)
        until(lambda: not is_alive(child), "the child to end")
        parent.stdout.close()


def simulate(fleet: Path, port: int, state: Path) -> list[str]:
    """A command line."""
    return ["simulate", "--fleet", str(fleet), "--port", str(port), "--state", str(state)]


class TestSimulate:
    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("", "truncated"),
            ("{", "truncated"),
            ("[]", "Expected `object`"),
            ("{}", "sites"),
            ('{"sites": []}', "has 0 sites"),
            ([site_spec(1, site="x")], "UUID"),
            ([site_spec(1, seed="one")], "seed"),
            ([site_spec(1, profile="airport")], "profile"),
            ([site_spec(1, workloads=9)], "workloads"),
            ([site_spec(1, address="127.0.0.1")], "not in 127.64.0.0/10"),
            ([site_spec(1, address="127.64.0")], "not in 127.64.0.0/10"),
            ([site_spec(1, time_zone="Mars/Olympus")], "no time zone"),
            ([site_spec(1, time_zone="../etc/passwd")], "no time zone"),
            ([site_spec(1), site_spec(1)], "twice"),
            ([site_spec(1), site_spec(2, address=site_spec(1)["address"])], "twice"),
            ([site_spec(n) for n in range(10_001)], "10001 sites"),
        ],
    )
    def test_a_bad_fleet_file_is_one_clear_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, reason: str
    ) -> None:
        path = tmp_path / "fleet.json"
        path.write_text(content if isinstance(content, str) else json.dumps({"sites": content}))
        said = complaint(capsys, *simulate(path, free_port(), tmp_path))
        assert reason in said
        assert str(path) in said

    def test_a_missing_fleet_file_is_one_clear_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = complaint(capsys, *simulate(tmp_path / "none", 9999, tmp_path))
        assert said == f"archipelago-agent: cannot read {tmp_path / 'none'}: no such file or directory\n"

    def test_a_taken_port_is_one_clear_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        fleet = write_fleet(tmp_path / "fleet.json", [site_spec(1)])
        (taken,) = bind_block(["127.120.0.2"], 0)
        with taken:
            taken.listen()
            port = taken.getsockname()[1]
            said = complaint(capsys, *simulate(fleet, port, tmp_path))
        assert said.endswith(f"port {port} of the loopback device: address already in use\n")

    def test_a_control_path_that_cannot_be_used_is_one_clear_line(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        fleet = write_fleet(tmp_path / "fleet.json", [site_spec(1)])
        (tmp_path / "file").touch()
        for path in (tmp_path / "file", tmp_path / "none" / "control", tmp_path / ("x" * 120)):
            said = complaint(capsys, *simulate(fleet, free_port(), tmp_path), "--control", str(path))
            assert str(path) in said
        assert (tmp_path / "file").exists()

    def test_a_stale_control_socket_is_replaced_and_a_live_one_is_not(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / "control.sock"))
        simulator = Simulator(tmp_path, [site_spec(1)])
        again = simulate(tmp_path / "fleet.json", free_port(), tmp_path / "another")
        said = complaint(capsys, *again, "--control", str(simulator.control))
        assert "another simulator already listens" in said
        assert simulator.order("status")["sites"] == 1
        status, out, err = simulator.close()
        assert (status, err) == (0, "")
        assert out.splitlines()[-1].endswith("ending on SIGTERM")
        assert not simulator.control.exists()

    def test_a_port_can_be_used_again_at_once(self, tmp_path: Path) -> None:
        simulator = Simulator(tmp_path, [site_spec(1)])
        with simulator.client(simulator.specs[0]["address"]) as client:
            client.get()
            simulator.close()
        process = start_agent(*simulate(tmp_path / "fleet.json", simulator.port, simulator.state))
        wait_for_line(process, "1 simulated sites answer")
        assert stop(process)[0] == 0


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path_factory.mktemp("simctl"), [site_spec(n) for n in range(3)])
    yield simulator
    assert simulator.close()[0] == 0


class TestSimctl:
    def say(self, simulator: Simulator, capsys: pytest.CaptureFixture[str], *order: str) -> str:
        assert main(["simctl", "--control", str(simulator.control), *order]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    def test_the_human_form(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        one, two = simulator.specs[0]["address"], simulator.specs[1]["site"]
        assert self.say(simulator, capsys, "fail", "down", one, two, "--for", "60") == "sites: 2\n"
        assert "verdicts: up 1, degraded 0, down 2\nmodes: down 2\n" in self.say(simulator, capsys, "status")
        assert self.say(simulator, capsys, "heal", "all") == "sites: 3\n"
        assert "modes: none\n" in self.say(simulator, capsys, "status")
        said = self.say(simulator, capsys, "upgrade", "workload", "pos", "9.9.9", "all")
        assert said == "sites: 3\nchanged: 3\n"
        assert self.say(simulator, capsys, "churn", "0.01") == "per minute: 0.01\n"
        assert self.say(simulator, capsys, "churn", "0") == "per minute: 0.0\n"

    def test_the_json_form(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["simctl", "--control", str(simulator.control), "--json", "status"]) == 0
        assert json.loads(capsys.readouterr().out)["sites"] == 3

    def test_a_refused_order_is_one_clear_line(self, simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
        said = complaint(capsys, "simctl", "--control", str(simulator.control), "heal", "mars")
        assert said == "archipelago-agent: no site 'mars' in this simulator\n"

    def test_no_simulator_is_one_clear_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        said = complaint(capsys, "simctl", "--control", str(tmp_path / "none"), "status")
        assert said == f"archipelago-agent: no simulator answers at {tmp_path / 'none'}: no such file or directory\n"


class TestCommandLine:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["dance"],
            ["run", "--listen", ADDRESS, "--site", str(SITE), "--state", "s"],
            ["run", "--listen", f"{ADDRESS}:0", "--site", str(SITE), "--state", "s"],
            ["run", "--listen", f"{ADDRESS}:65536", "--site", str(SITE), "--state", "s"],
            ["run", "--listen", f"{ADDRESS}:9100", "--site", "x", "--state", "s"],
            ["simulate", "--fleet", "f", "--port", "http", "--state", "s"],
            ["simulate", "--fleet", "f", "--port", "9100"],
            ["simctl", "--control", "c"],
            ["simctl", "--control", "c", "fail", "sideways", "all"],
            ["simctl", "--control", "c", "fail", "down"],
            ["simctl", "--control", "c", "churn", "often"],
        ],
    )
    def test_a_wrong_command_line_says_so(self, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        assert "error: " in capsys.readouterr().err.splitlines()[-1]

    @pytest.mark.parametrize(
        "command",
        [[], ["enrol"], ["run"], ["status"], ["doctor"], ["simulate"], ["simctl"], ["simctl", "fail"]],
    )
    def test_every_command_has_help(self, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        before = ["--control", "c"] if command[1:] else []
        with pytest.raises(SystemExit) as ended:
            main([*command[:1], *before, *command[1:], "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith("usage: archipelago-agent")
