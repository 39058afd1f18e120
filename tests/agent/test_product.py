"""What an operator does with the agent: enrol it, run it by its configuration, ask how it is, and what is wrong."""

import asyncio
import io
import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from websockets.asyncio.server import ServerConnection, serve

from agent import __version__
from agent.calling import CallError
from agent.cli import main
from agent.commands import enrol as enrol_command
from agent.identity import IdentityFile
from agent.protocol.identity import EnrolRequest, site_name, write_join
from agent.state import IDENTITIES, JOIN, SOCKET, LockedError, locked
from agent.status import ask, read_identity
from tests.agent.factories import SITE
from tests.agent.gateway import Answer, FakeGateway, refusal
from tests.agent.wire import ROOT, Client, free_port, keep, start_agent, stop, until, wait_for_line
from tests.pki import Fleet, now

ADDRESS = "127.122.0.4"
OTHER = UUID(int=7)


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def gateway(fleet: Fleet) -> Iterator[FakeGateway]:
    gateway = FakeGateway(fleet)
    yield gateway
    gateway.close()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration of a site that can be dialled, whose state folder is not there yet."""
    path = tmp_path / "agent.toml"
    path.write_text(f'state = "{tmp_path / "state"}"\nlisten = "{ADDRESS}:{free_port()}"\n')
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


class Told:
    """What a command said, and its exit status."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    def run(*arguments: str) -> Told:
        status = main(arguments)
        return Told(status, *capsys.readouterr())

    return run


@pytest.fixture
def enrol(
    gateway: FakeGateway, config: Path, tell: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Told]:
    """Enrol with a join string of the gateway's, given on standard input."""

    def run(*arguments: str, **fields: Any) -> Told:
        join = write_join(gateway.join(**{"site": SITE, **fields}))
        monkeypatch.setattr("sys.stdin", io.StringIO(join + "\n"))
        return tell("enrol", "--config", str(config), *arguments)

    return run


class TestEnrol:
    def test_it_shows_the_fingerprint_waits_and_keeps_the_certificate(
        self, enrol: Callable[..., Told], gateway: FakeGateway, folder: Path
    ) -> None:
        answers = ["pending", "pending", "accepted"]
        gateway.enrol = lambda request: gateway.standing(answers.pop(0), request)
        told = enrol()
        identity = read_identity(folder)
        assert identity is not None
        assert identity.certificates is not None
        fingerprint = identity.keys.fingerprint.upper().replace("-", "  ")
        assert (told.status, told.err) == (0, "")
        lines = told.out.splitlines()
        assert lines[0] == f"This machine has presented itself as site {SITE}."
        assert lines[2:5] == ["=" * (len(fingerprint) + 4), f"  {fingerprint}", "=" * (len(fingerprint) + 4)]
        assert lines[6] == "This is its FINGERPRINT."
        assert lines[-3].endswith("Waiting for that ...")
        assert lines[-2].startswith("Accepted. The certificate is valid until ")
        assert lines[-1] == "Start the agent: systemctl enable --now archipelago-agent"
        assert len(gateway.asked) == 3
        assert len({request.signing_key for request in gateway.asked if isinstance(request, EnrolRequest)}) == 1

    def test_the_secret_is_gone_afterwards_and_was_for_nobody_else(
        self, enrol: Callable[..., Told], gateway: FakeGateway, folder: Path
    ) -> None:
        modes = []

        def accept(request: EnrolRequest) -> Answer:
            modes.append(stat.S_IMODE((folder / JOIN).stat().st_mode))
            return gateway.accept(request)

        gateway.enrol = accept
        assert enrol().status == 0
        assert modes == [0o600]
        assert not (folder / JOIN).exists()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / IDENTITIES).stat().st_mode) == 0o600

    def test_without_waiting_run_does_the_rest(
        self, enrol: Callable[..., Told], gateway: FakeGateway, fleet: Fleet, folder: Path, config: Path
    ) -> None:
        gateway.enrol = lambda request: gateway.standing("pending", request)
        told = enrol("--no-wait")
        assert told.status == 0
        assert told.out.splitlines()[-1] == (
            "Not waiting: start the agent, which fetches its certificate once it is accepted."
        )
        gateway.enrol = gateway.accept
        process = start_agent("run", "--config", str(config))
        wait_for_line(process, "answers for site")
        until(lambda: not (folder / JOIN).exists(), "the certificate")
        assert stop(process)[0] == 0
        assert {request.signing_key for request in gateway.asked if isinstance(request, EnrolRequest)} == {
            gateway.asked[0].signing_key  # type: ignore[union-attr]
        }

    @pytest.mark.parametrize(
        ("code", "status", "said"),
        [
            ("expired", 4, "the join string has expired; it is valid for 24 hours."),
            ("withdrawn", 4, "the join string was withdrawn, for a newer one was made."),
            ("unknown_token", 4, "the centre does not know this join string."),
            ("replaced", 4, "newer keys of this site took the place of these."),
            ("frozen", 5, "the site is frozen: by its operators, or as a join string was used with other keys."),
            ("revoked", 6, "the keys of this site were revoked."),
            ("retired", 6, "this site is retired."),
            ("signer", 3, "because of signer."),
            ("slow_down", 3, "because of slow_down."),
            ("proof", 1, "the gateway refuses: because of proof."),
        ],
    )
    def test_each_refusal_has_its_sentence_status_and_remedy(
        self, code: str, status: int, said: str, enrol: Callable[..., Told], gateway: FakeGateway
    ) -> None:
        gateway.enrol = lambda request: refusal(code)
        told = enrol()
        assert told.status == status
        first, remedy = told.err.splitlines()
        assert first == f"archipelago-agent: {said}"
        assert remedy.endswith((".", "`."))

    def test_what_a_gateway_says_is_fit_for_a_terminal(self, enrol: Callable[..., Told], gateway: FakeGateway) -> None:
        gateway.enrol = lambda request: refusal("odd\x1b[2J\n")
        told = enrol()
        assert told.err.splitlines()[0] == "archipelago-agent: the gateway refuses: because of odd?[2J?."

    def test_rejected_by_a_person(self, enrol: Callable[..., Told], gateway: FakeGateway, folder: Path) -> None:
        answers = ["pending", "rejected"]
        gateway.enrol = lambda request: gateway.standing(answers.pop(0), request)
        told = enrol()
        assert told.status == 6
        assert told.err.splitlines()[0] == "archipelago-agent: the keys of this machine were rejected: why."
        assert not (folder / JOIN).exists()

    def test_another_root_and_another_certificate(self, enrol: Callable[..., Told], gateway: FakeGateway) -> None:
        told = enrol(root_sha256=b"r" * 32)
        assert told.status == 7
        assert told.err.splitlines() == [
            "archipelago-agent: the gateway is not the one that the join string names: somebody may be in between.",
            "Nothing secret was sent. Check the network on the way, then the join string.",
        ]
        assert enrol(fleet="other.example").status == 7
        assert gateway.asked == []

    def test_a_wrong_clock_is_named(self, enrol: Callable[..., Told], monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any) -> Any:
            raise CallError("the gateway's certificate is refused: certificate is not yet valid", "certificate")

        monkeypatch.setattr(enrol_command, "fetch_roots", refuse)
        told = enrol()
        assert told.status == 8
        assert told.err.splitlines() == [
            "archipelago-agent: this machine's clock and the centre's certificates do not agree: it may be behind (the"
            " gateway's certificate is refused: certificate is not yet valid).",
            "Set the clock (`timedatectl set-ntp true`) and enrol again.",
        ]

    def test_nobody_at_the_gateways_address(self, enrol: Callable[..., Told]) -> None:
        told = enrol(gateway=f"127.0.0.1:{free_port()}")
        assert told.status == 3
        assert told.err.startswith("archipelago-agent: the gateway cannot be reached: connection refused.") or (
            "refused" in told.err.lower()
        )

    def test_a_gateway_that_goes_away_while_we_wait_is_waited_for(
        self, enrol: Callable[..., Told], gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(enrol_command, "RETRY_S", 0.01)
        answers: list[Callable[[EnrolRequest], Answer]] = [
            lambda request: gateway.standing("pending", request),
            lambda request: refusal("unavailable", 503),
            lambda request: refusal("unavailable", 503),
            gateway.accept,
        ]
        gateway.enrol = lambda request: answers.pop(0)(request)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        told = enrol()
        assert told.status == 0
        assert told.out.count("Trying again.") == 1

    def test_revoked_keys_are_replaced(self, enrol: Callable[..., Told], gateway: FakeGateway, folder: Path) -> None:
        assert enrol().status == 0
        before = read_identity(folder)
        assert before is not None

        def only_new(request: EnrolRequest) -> Answer:
            return refusal("revoked_keys") if request.tls_key == before.keys.public()[0] else gateway.accept(request)

        gateway.enrol = only_new
        told = enrol("--again")
        assert told.status == 0
        assert "It has made new ones." in told.out
        after = read_identity(folder)
        assert after is not None
        assert after.keys != before.keys

    def test_enrolled_again_without_waiting_run_joins_at_once(
        self, enrol: Callable[..., Told], gateway: FakeGateway, folder: Path, config: Path
    ) -> None:
        assert enrol().status == 0
        gateway.enrol = lambda request: gateway.standing("pending", request)
        assert enrol("--again", "--no-wait").status == 0
        process = start_agent("run", "--config", str(config))
        wait_for_line(process, "waits to be accepted")
        assert (folder / JOIN).exists()
        gateway.enrol = gateway.accept
        until(lambda: not (folder / JOIN).exists(), "the certificate")
        assert stop(process)[0] == 0
        identity = read_identity(folder)
        assert identity is not None
        assert identity.certificates is not None

    def test_a_machine_that_has_enrolled_says_so_and_asks_nobody(
        self, enrol: Callable[..., Told], gateway: FakeGateway
    ) -> None:
        assert enrol().status == 0
        asked = len(gateway.asked)
        told = enrol()
        assert told.status == 0
        assert told.out.startswith(f"This machine is site {SITE} already; its certificate is valid until ")
        assert len(gateway.asked) == asked

    def test_another_sites_join_string(self, enrol: Callable[..., Told], folder: Path) -> None:
        assert enrol().status == 0
        told = enrol(site=OTHER)
        assert (told.status, told.err) == (
            1,
            f"archipelago-agent: this machine is site {SITE}, but the join string is for site {OTHER};"
            f" to make it another site, stop the agent and move {folder} away\n",
        )

    def test_while_the_agent_runs_nobody_else_writes_keys(
        self, enrol: Callable[..., Told], gateway: FakeGateway, folder: Path
    ) -> None:
        with locked(folder):
            told = enrol()
            with pytest.raises(LockedError), locked(folder):
                pass
        assert told.status == 1
        assert told.err == (
            f"archipelago-agent: another archipelago-agent (process {os.getpid()}) uses {folder}; stop it, enrol, and"
            " start it again: systemctl stop archipelago-agent\n"
        )
        assert gateway.asked == []
        assert enrol().status == 0

    def test_the_join_string_in_a_file_or_among_the_arguments(
        self, gateway: FakeGateway, config: Path, tell: Callable[..., Told], tmp_path: Path
    ) -> None:
        join = write_join(gateway.join(SITE))
        (tmp_path / "join").write_text(f"\n {join} \n")
        told = tell("enrol", "--config", str(config), "--join-file", str(tmp_path / "join"))
        assert (told.status, told.err) == (0, "")
        told = tell("enrol", "--config", str(config), "--again", join)
        assert told.status == 0
        assert told.err.startswith("Warning: a join string among the arguments can be read by all users")
        told = tell("enrol", "--config", str(config), "--join-file", str(tmp_path / "none"))
        assert told.err == f"archipelago-agent: {tmp_path / 'none'} cannot be read: no such file or directory\n"

    @pytest.mark.parametrize("text", ["", "hello\n", "archipelago1.AAAA\n"])
    def test_a_damaged_join_string(
        self, text: str, config: Path, tell: Callable[..., Told], folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        told = tell("enrol", "--config", str(config), "-")
        assert told.status == 1
        assert "join string" in told.err
        assert not folder.exists()


class TestRun:
    def test_without_an_identity_it_says_to_enrol_first(self, config: Path, tell: Callable[..., Told]) -> None:
        told = tell("run", "--config", str(config))
        assert (told.status, told.err) == (
            78,
            "archipelago-agent: this machine has not enrolled yet: run `archipelago-agent enrol` first\n",
        )

    def test_keys_without_certificate_or_join_string(
        self, enrol: Callable[..., Told], gateway: FakeGateway, config: Path, tell: Callable[..., Told]
    ) -> None:
        gateway.enrol = lambda request: gateway.standing("rejected", request)
        assert enrol().status == 6
        told = tell("run", "--config", str(config))
        assert (told.status, told.err) == (
            78,
            "archipelago-agent: this machine was never accepted: run `archipelago-agent enrol` with its join string\n",
        )

    def test_a_bad_configuration_is_one_clear_line(self, config: Path, tell: Callable[..., Told]) -> None:
        config.write_text("lisen = 1")
        told = tell("run", "--config", str(config))
        assert (told.status, told.err.count("\n")) == (78, 1)
        assert told.err.startswith(f"archipelago-agent: {config}: lisen is not known here; allowed are state, listen")

    def test_flags_alone_need_a_way_to_be_reached(self, tmp_path: Path, tell: Callable[..., Told]) -> None:
        told = tell("run", "--state", str(tmp_path))
        assert (told.status, told.err) == (
            78,
            "archipelago-agent: without a configuration, --listen ADDRESS:PORT or --dial-out must be given\n",
        )

    def test_a_ca_file_that_is_not_there(self, fleet: Fleet, config: Path, folder: Path, tell: Any) -> None:
        keep(folder, fleet.site(SITE))
        with config.open("a") as file:
            file.write('[[probes]]\nkind = "http"\nname = "w"\nurl = "https://h/"\nca_file = "/nowhere"\n')
        told = tell("run", "--config", str(config))
        assert (told.status, told.err) == (
            78,
            "archipelago-agent: a probe's ca_file cannot be used: no such file or directory\n",
        )

    def test_two_at_once(self, fleet: Fleet, config: Path, folder: Path, tell: Callable[..., Told]) -> None:
        keep(folder, fleet.site(SITE))
        with locked(folder):
            told = tell("run", "--config", str(config))
        assert told.err == f"archipelago-agent: another archipelago-agent (process {os.getpid()}) uses {folder}\n"


class TestSystemd:
    """The service manager is told when the agent is ready, and that it lives."""

    def test_ready_watchdog_and_stopping(self, fleet: Fleet, config: Path, folder: Path, tmp_path: Path) -> None:
        keep(folder, fleet.site(SITE))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(tmp_path / "notify"))
            manager.settimeout(10)
            environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
            process = start_agent("run", "--config", str(config), env=environment)
            assert manager.recv(100) == b"READY=1"
            began_s = time.monotonic()
            assert [manager.recv(100) for _ in range(4)] == [b"WATCHDOG=1"] * 4
            assert time.monotonic() - began_s < 5
            process.send_signal(signal.SIGTERM)
            while (said := manager.recv(100)) == b"WATCHDOG=1":
                pass
            assert said == b"STOPPING=1"
            assert stop(process)[0] == 0


@pytest.fixture
def running(fleet: Fleet, gateway: FakeGateway, config: Path, folder: Path) -> Iterator["subprocess.Popen[str]"]:
    """An agent that has enrolled, with a probe that fails and one that does not."""
    keep(folder, fleet.site(SITE))
    with config.open("a") as file:
        file.write(
            '[[probes]]\nkind = "tcp"\nname = "db"\nhost = "127.0.0.1"\n'
            f"port = {free_port()}\ninterval_s = 0.1\ntimeout_s = 0.1\n"
            '[[probes]]\nkind = "disk"\nname = "disk"\npath = "/"\nwarn_ratio = 0.9999\ncritical_ratio = 1.0\n'
        )
    process = start_agent("run", "--config", str(config))
    wait_for_line(process, "this site is down")
    yield process
    if process.poll() is None:
        assert stop(process)[0] == 0


def endpoint(config: Path) -> tuple[str, int]:
    host, port = config.read_text().splitlines()[1].partition('"')[2].rstrip('"').split(":")
    return host, int(port)


class TestStatus:
    def test_of_a_running_agent(
        self, running: "subprocess.Popen[str]", fleet: Fleet, config: Path, folder: Path, tell: Callable[..., Told]
    ) -> None:
        assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
        told = json.loads(tell("status", "--config", str(config), "--json").out)
        assert told["last_poll_at"] is None
        with Client(*endpoint(config), tls=fleet.dashboard, name=site_name(fleet.name, 1, SITE)) as client:
            assert client.get().json["verdict"]["state"] == "down"
        until(lambda: (s := ask(folder / SOCKET)) is not None and s.last_poll_at is not None, "the poll")
        told = json.loads(tell("status", "--config", str(config), "--json").out)
        identity = read_identity(folder)
        assert identity is not None
        assert (told["running"], told["pid"], told["version"]) == (True, running.pid, __version__)
        assert told["identity"]["site"] == str(SITE)
        assert told["identity"]["fingerprint"] == identity.keys.fingerprint
        assert told["identity"]["certificate"]["gateway"] == fleet.gateway
        assert told["link"] == {"mode": "direct", "address": "{}:{}".format(*endpoint(config)), "since": None}
        assert told["verdict"]["state"] == "down"
        assert [(probe["name"], probe["kind"], probe["state"]) for probe in told["probes"]] == [
            ("db", "tcp", "down"),
            ("disk", "disk", "up"),
        ]
        assert told["journal"]["seq"] == told["journal"]["unacknowledged"] >= 3
        assert told["journal"]["bound_bytes"] == 256 << 20
        assert 10 << 20 < told["rss_bytes"] < 80 << 20

        until(lambda: (s := ask(folder / SOCKET)) is not None and all(p.last_at for p in s.probes), "the first looks")
        people = tell("status", "--config", str(config))
        assert people.status == 0
        names = [line.split("  ")[0].strip() for line in people.out.splitlines()]
        assert [name for name in names if name] == [
            *("agent", "site", "fingerprint", "certificate", "gateway", "link", "last poll", "verdict"),
            *("probe", "probe", "journal", "memory"),
        ]
        assert f"link         direct: the centre dials {ADDRESS}:" in people.out
        assert "probe        disk (disk): up, last look " in people.out

    def test_of_an_agent_that_does_not_run(
        self, running: "subprocess.Popen[str]", config: Path, folder: Path, tell: Callable[..., Told]
    ) -> None:
        stop(running)
        assert not (folder / SOCKET).exists()
        told = tell("status", "--config", str(config))
        assert told.status == 3
        lines = told.out.splitlines()
        assert lines[0] == "agent        does not run; this is what its files tell"
        assert lines[1] == f"site         {SITE}"
        assert lines[-1].startswith("journal      entry ")
        told = tell("status", "--config", str(config), "--json")
        assert json.loads(told.out)["journal"]["seq"] >= 3

    def test_after_a_kill_the_stale_socket_is_no_agent(
        self, running: "subprocess.Popen[str]", config: Path, folder: Path, tell: Callable[..., Told]
    ) -> None:
        running.kill()
        running.communicate()
        assert (folder / SOCKET).exists()
        assert tell("status", "--config", str(config)).status == 3
        again = start_agent("run", "--config", str(config))
        wait_for_line(again, "answers for site")
        until(lambda: ask(folder / SOCKET), "its socket")
        assert tell("status", "--config", str(config)).status == 0
        assert stop(again)[0] == 0

    def test_before_anything_was_done(self, config: Path, folder: Path, tell: Callable[..., Told]) -> None:
        told = tell("status", "--config", str(config))
        assert told.out.splitlines() == [
            "agent        does not run; this is what its files tell",
            "site         none: this machine has not enrolled; run `archipelago-agent enrol`",
        ]
        assert not folder.exists()

    def test_an_expired_certificate_and_one_that_waits(
        self, fleet: Fleet, gateway: FakeGateway, config: Path, folder: Path, enrol: Any, tell: Callable[..., Told]
    ) -> None:
        gateway.enrol = lambda request: gateway.standing("pending", request)
        enrol("--no-wait")
        assert "certificate  none: waits to be accepted" in tell("status", "--config", str(config)).out
        IdentityFile(folder / IDENTITIES).put(fleet.site(SITE, at=now() - timedelta(days=20)))
        assert "certificate  EXPIRED since " in tell("status", "--config", str(config)).out

    def test_something_else_at_its_socket(self, config: Path, folder: Path, tell: Callable[..., Told]) -> None:
        folder.mkdir()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(folder / SOCKET))
            other.listen()

            def answer() -> None:
                connection, _ = other.accept()
                connection.sendall(b"hello")
                connection.close()

            thread = threading.Thread(target=answer)
            thread.start()
            told = tell("status", "--config", str(config))
            thread.join()
        assert (told.status, told.err) == (
            1,
            f"archipelago-agent: what answers at {folder / SOCKET} is not this agent, or it ended meanwhile\n",
        )


class TestDialOut:
    async def test_the_link_and_since_when(self, fleet: Fleet, config: Path, folder: Path, capsys: Any) -> None:
        """Against a gateway that takes the link and nothing else."""
        connected: list[str] = []

        async def take(link: ServerConnection) -> None:
            connected.append(link.request.path if link.request is not None else "")
            await link.wait_closed()

        context = fleet.server(fleet.service("gateway"))
        context.load_verify_locations(cadata=fleet.root.pem)
        context.verify_mode = ssl.CERT_REQUIRED
        async with serve(take, "127.0.0.1", 0, ssl=context) as gateway:
            fleet.gateway = f"127.0.0.1:{next(iter(gateway.sockets)).getsockname()[1]}"
            keep(folder, fleet.site(SITE))
            config.write_text(f'state = "{folder}"\ndial_out = true\n')
            process = start_agent("run", "--config", str(config))
            assert "which calls the gateway" in await asyncio.to_thread(wait_for_line, process, "answers for site")

            def linked() -> bool:
                status = ask(folder / SOCKET)
                return status is not None and status.link is not None and status.link.since is not None

            await asyncio.to_thread(until, linked, "the link")
            assert await asyncio.to_thread(main, ["status", "--config", str(config)]) == 0
            assert "\nlink         dial-out, connected since " in capsys.readouterr().out
            assert connected == ["/agent/v1/link"]
        await asyncio.to_thread(until, lambda: not linked(), "the end of the link")
        assert await asyncio.to_thread(main, ["status", "--config", str(config)]) == 0
        assert "\nlink         dial-out, NOT CONNECTED\n" in capsys.readouterr().out
        assert stop(process)[0] == 0


def test_the_secret_on_standard_input_stands_in_no_process_list(gateway: FakeGateway, config: Path) -> None:
    gateway.enrol = lambda request: gateway.standing("pending", request)
    command = [sys.executable, "-m", "agent", "enrol", "--config", str(config), "-"]
    join = write_join(gateway.join(SITE))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(join + "\n")
        process.stdin.flush()
        until(lambda: gateway.asked, "it to ask")
        shown = Path(f"/proc/{process.pid}/cmdline").read_bytes() + Path(f"/proc/{process.pid}/environ").read_bytes()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
    assert join.encode() not in shown
    assert process.returncode == 130


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_root_becomes_the_owner_of_the_state_folder() -> None:
    """So that no file there is root's, which the service then could not read."""
    code = (
        "import os, sys; from pathlib import Path; from agent.state import become_owner, keep_join, locked\n"
        "folder = Path(sys.argv[1]); become_owner(folder)\n"
        "with locked(folder): keep_join(folder, 'x')\n"
        "print(os.getresuid(), os.getresgid(), os.getgroups())"
    )
    with tempfile.TemporaryDirectory() as name:  # below one that others may enter
        Path(name).chmod(0o755)
        folder = Path(name) / "state"
        folder.mkdir(mode=0o700)
        os.chown(folder, 12_345, 12_346)
        command = [sys.executable, "-c", code, str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        ids = f"{(12_345,) * 3} {(12_346,) * 3} [12346]\n"
        assert (done.returncode, done.stdout, done.stderr) == (0, ids, "")
        owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in folder.iterdir()}
        assert owners == dict.fromkeys(["agent.lock", JOIN], (12_345, 12_346))
