"""`doctor`: each thing that may be wrong is made wrong, and must be named with what to do."""

import json
import os
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from agent.backends.host import HostBackend
from agent.cli import main
from agent.commands.doctor import examine
from agent.config import read_config
from agent.doctor import machine
from agent.doctor.check import Check
from agent.doctor.files import check_disk
from agent.doctor.machine import check_agent, check_files, check_polls, check_systemd
from agent.doctor.network import amount, check_clock, check_door
from agent.identity import Identity, IdentityFile, Keys
from agent.keeping import open_identities
from agent.memory import Memory
from agent.protocol.identity import write_join
from agent.state import IDENTITIES, JOURNAL, keep_join
from agent.status import LinkStatus, Status
from tests.agent.factories import SITE
from tests.agent.gateway import FakeGateway
from tests.agent.wire import free_port, keep, start_agent, stop, until, wait_for_line
from tests.pki import Fleet, now, odd_leaf

ADDRESS = "127.122.0.5"


class Place(NamedTuple):
    """An enrolled machine with its gateway."""

    fleet: Fleet
    gateway: FakeGateway
    config: Path
    folder: Path
    port: int

    def examine(self, at: datetime | None = None) -> dict[str, Check]:
        return {check.name: check for check in examine(read_config(self.config), at or now())}

    def levels(self) -> dict[str, str]:
        return {name: check.level for name, check in self.examine().items()}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    fleet = Fleet()
    gateway = FakeGateway(fleet)
    port = free_port()
    config = tmp_path / "agent.toml"
    config.write_text(f'state = "{tmp_path / "state"}"\nlisten = "{ADDRESS}:{port}"\n')
    folder = tmp_path / "state"
    keep(folder, fleet.site(SITE))
    yield Place(fleet, gateway, config, folder, port)
    gateway.close()


class TestTheWholeExamination:
    def test_where_all_is_well(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        process = start_agent("run", "--config", str(place.config))
        wait_for_line(process, "answers for site")
        until(lambda: "agent" in place.levels() and place.levels()["agent"] == "ok", "its socket")
        assert main(["doctor", "--config", str(place.config)]) == 0
        lines = capsys.readouterr().out.splitlines()
        found = [line.split()[0] for line in lines if not line.strip().startswith("->")]
        assert "PROBLEM" not in found
        assert place.levels() == {
            **dict.fromkeys(["state folder", "disk", "agent", "journal", "certificate", "name", "gateway"], "ok"),
            **dict.fromkeys(["clock", "door", "polls", "open files"], "ok"),
            "service": check_systemd().level,
        }
        assert lines[0] == f"ok       configuration  {place.config} is good: 0 probes."
        assert main(["doctor", "--config", str(place.config), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert [sorted(check) for check in said] == [["level", "name", "remedy", "sentence"]] * len(said)
        assert all(check["remedy"] for check in said if check["level"] != "ok")
        status, out, _ = stop(process)
        assert status == 0
        assert "refused" not in out  # our own handshakes are no alarm

    def test_a_machine_on_which_nothing_runs(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", "--config", str(place.config)]) == 1
        out = capsys.readouterr().out
        assert "PROBLEM  agent          It does not run.\n" in out
        assert "-> Start it: systemctl start archipelago-agent\n" in out

    def test_a_bad_configuration(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", "--config", str(tmp_path / "none")]) == 1
        out = capsys.readouterr().out
        assert out.startswith(
            f"PROBLEM  configuration  {tmp_path / 'none'} cannot be read: no such file or directory.\n"
        )
        assert "examples are in deploy/agent" in out

    def test_it_changes_nothing(self, place: Place) -> None:
        def content() -> dict[str, bytes]:
            return {path.name: path.read_bytes() for path in place.folder.iterdir()}

        before = content()
        place.examine()
        assert content() == before


class TestFiles:
    def test_no_folder(self, place: Place) -> None:
        place.config.write_text(f'state = "{place.folder / "none"}"\ndial_out = true\n')
        found = place.examine()
        assert list(found) == ["state folder"]
        assert found["state folder"].sentence == f"{place.folder}/none cannot be used: no such file or directory."
        place.config.write_text(f'state = "{place.config}"\ndial_out = true\n')
        assert place.examine()["state folder"].sentence == f"{place.config} is not a folder."

    @pytest.mark.parametrize("name", ["", "identities.sqlite", "join"])
    def test_what_others_may_read(self, name: str, place: Place) -> None:
        keep_join(place.folder, "x")
        (place.folder / name).chmod(0o755)
        check = place.examine()["state folder"]
        assert check.sentence == f"Other users may read {place.folder / name}, where keys or secrets lie."
        assert check.remedy == f"chmod go-rwx {place.folder / name}"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
    def test_a_folder_of_another_user(self, place: Place) -> None:
        os.chown(place.folder, 12_345, 12_345)
        assert place.examine()["state folder"].sentence == f"{place.folder} belongs to another user (uid 12345)."

    def test_a_disk_that_cannot_be_written(self, place: Place) -> None:
        assert check_disk(Path("/proc"), 1).sentence.startswith("Nothing can be written in /proc: ")
        assert check_disk(place.folder, 1).level == "ok"
        assert check_disk(place.folder, 1 << 60).level == "warning"

    def test_an_edited_journal(self, place: Place) -> None:
        self.write(place)
        assert place.examine()["journal"].sentence == "Every entry and its place in the chain is as it was written."
        with sqlite3.connect(place.folder / JOURNAL) as db:
            db.execute("UPDATE entry SET bytes = replace(bytes, 'up', 'no') WHERE seq = 2")
        db.close()
        check = place.examine()["journal"]
        assert (check.level, check.remedy) == (
            "problem",
            "Start the agent: it sets the file aside and begins a new one.",
        )

    def test_a_truncated_journal_and_one_set_aside(self, place: Place) -> None:
        self.write(place)
        size = (place.folder / JOURNAL).stat().st_size
        os.truncate(place.folder / JOURNAL, size // 2)
        assert place.examine()["journal"].level == "problem"
        self.write(place)
        assert place.examine()["journal before"].level == "warning"

    def write(self, place: Place) -> None:
        """What an agent that ran has left."""
        memory = Memory(place.folder / JOURNAL, [HostBackend(SITE)])
        memory.tick()
        memory._journal.close()


class TestCertificate:
    @pytest.mark.parametrize(
        ("age", "level", "said"),
        [
            (timedelta(0), "ok", "Valid until "),
            (timedelta(days=4), "warning", "It is past its half-life ("),
            (timedelta(days=8), "problem", "It has expired at "),
            (timedelta(days=-3), "problem", "It is valid only from "),
        ],
    )
    def test_its_age(self, age: timedelta, level: str, said: str, place: Place) -> None:
        keep(place.folder, place.fleet.site(SITE, at=now() - age))
        check = place.examine()["certificate"]
        assert (check.level, check.sentence[: len(said)]) == (level, said)

    def test_not_enrolled_and_not_yet_accepted(self, place: Place, tmp_path: Path) -> None:
        fresh = tmp_path / "fresh"
        place.config.write_text(f'state = "{fresh}"\ndial_out = true\n')
        fresh.mkdir(mode=0o700)
        found = place.examine()
        assert found["certificate"].sentence == "This machine has not enrolled."
        assert found["gateway"].level == "warning"
        identity = open_identities(IdentityFile(fresh / IDENTITIES), [SITE])[SITE]
        assert place.examine()["certificate"].level == "problem"
        keep_join(fresh, write_join(place.gateway.join(SITE)))
        found = place.examine()
        assert found["certificate"].level == "warning"
        assert identity.keys.fingerprint in found["certificate"].remedy
        assert found["gateway"].level == "ok"

    def test_what_the_centre_told_the_running_agent(self, place: Place) -> None:
        place.gateway.renew = lambda request: (403, b'{"error":{"code":"frozen","message":"The identity is frozen."}}')
        keep(place.folder, place.fleet.site(SITE, at=now() - timedelta(days=5)))
        process = start_agent("run", "--config", str(place.config))
        wait_for_line(process, "The identity is frozen.")
        until(lambda: "standing" in place.levels(), "its socket")
        check = place.examine()["standing"]
        assert stop(process)[0] == 0
        assert check.level == "problem"
        assert check.sentence == "The agent has trouble with its certificate: The identity is frozen."


class TestTheGateway:
    def test_nobody_answers(self, place: Place) -> None:
        place.gateway.close()
        check = place.examine()["gateway"]
        assert check.level == "problem"
        assert check.sentence.startswith(f"{place.gateway.endpoint}: the gateway cannot be reached: ")

    def test_somebody_else_answers(self, place: Place, tmp_path: Path) -> None:
        stranger = FakeGateway(Fleet())
        place.fleet.gateway = stranger.endpoint
        keep(place.folder, place.fleet.site(SITE))
        found = place.examine()
        stranger.close()
        assert found["gateway"].level == "problem"
        assert found["gateway"].sentence.startswith(f"{stranger.endpoint} cannot be recognised: ")
        assert found["clock"].sentence == "It agrees with the (unproven) gateway's."

    def test_another_root_than_the_join_strings(self, place: Place, tmp_path: Path) -> None:
        fresh = tmp_path / "fresh"
        fresh.mkdir(mode=0o700)
        place.config.write_text(f'state = "{fresh}"\ndial_out = true\n')
        keep_join(fresh, write_join(place.gateway.join(SITE, root_sha256=b"r" * 32)))
        check = place.examine()["gateway"]
        assert "is not the centre's" in check.sentence
        assert check.remedy == "Somebody may be in between: check the network on the way before anything else."

    def test_a_name_that_is_not_found(self, place: Place) -> None:
        place.fleet.gateway = "gateway.invalid:9443"
        keep(place.folder, place.fleet.site(SITE))
        found = place.examine()
        assert found["name"].level == "problem"
        assert found["name"].sentence.startswith("gateway.invalid is not found: ")
        assert "gateway" not in found

    def test_a_clock_that_is_years_ahead_is_named(self, place: Place) -> None:
        check = place.examine(now() + timedelta(days=731))["clock"]
        assert (check.level, check.sentence) == (
            "problem",
            "This machine's clock is 2 years ahead of the gateway's.",
        )
        assert check.remedy.startswith("Set the clock: ")


class TestTheClock:
    AT = datetime(2026, 11, 25, 12, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("seconds", "level", "said"),
        [
            (4, "ok", "It agrees with theirs."),
            (-30, "warning", "This machine's clock is 30 seconds behind theirs."),
            (120, "warning", "This machine's clock is 2 minutes ahead of theirs."),
            (-3_600, "problem", "This machine's clock is 1 hour behind theirs."),
            (2 * 365.25 * 86_400, "problem", "This machine's clock is 2 years ahead of theirs."),
        ],
    )
    def test_how_far_it_is(self, seconds: float, level: str, said: str) -> None:
        check = check_clock(format_datetime(self.AT, usegmt=True), self.AT + timedelta(seconds=seconds), "theirs")
        assert (check.level, check.sentence) == (level, said)

    @pytest.mark.parametrize("date", [None, "", "yesterday", "Thu, 99 Foo 2026 12:00:00 GMT"])
    def test_a_gateway_that_does_not_tell(self, date: str | None) -> None:
        assert check_clock(date, self.AT, "theirs").level == "warning"

    def test_amounts(self) -> None:
        assert [amount(s) for s in (1, 59, 60, 5_400, 86_400, 400 * 86_400)] == [
            *("1 seconds", "1 minute", "1 minute", "2 hours", "1 day", "1 year"),
        ]


class TestTheDoor:
    def test_nobody_and_somebody_else(self, place: Place) -> None:
        identity = place.fleet.site(SITE)
        assert check_door((ADDRESS, place.port), identity).sentence.startswith(
            f"Nobody listens at {ADDRESS}:{place.port}: "
        )
        stranger = Fleet()
        thief = place.fleet.site(SITE)
        for server in (stranger.server(stranger.site(SITE)), place.fleet.server(place.fleet.service("gateway"))):
            check = self.serve(place, server, identity)
            assert check.level == "problem"
            assert "is not this site's certificate" in check.sentence
        assert self.serve(place, place.fleet.server(thief), identity).level == "ok"

    def test_what_is_no_tls(self, place: Place) -> None:
        with socket.create_server((ADDRESS, place.port)) as server:

            def answer() -> None:
                connection, _ = server.accept()
                with connection:
                    connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    time.sleep(0.2)

            thread = Thread(target=answer)
            thread.start()
            check = check_door((ADDRESS, place.port), place.fleet.site(SITE))
            thread.join()
        assert check.level == "problem"
        assert check.sentence.startswith(f"No handshake at {ADDRESS}:{place.port}: ")

    def test_an_expired_certificate_is_shown(self, place: Place) -> None:
        keys = Keys.make()
        identity = place.fleet.site(SITE, keys=keys)
        old = odd_leaf(place.fleet.issuer(), keys, identity.name(), begin=timedelta(days=-9), end=timedelta(days=-1))
        shown = Identity(SITE, keys, place.fleet.certificates(old))
        check = self.serve(place, place.fleet.server(shown), identity)
        assert check.sentence.endswith("is not this site's certificate: certificate has expired.")

    def serve(self, place: Place, tls: ssl.SSLContext, identity: Any) -> Check:
        """One handshake as that server."""
        with socket.create_server((ADDRESS, place.port)) as server:

            def shake() -> None:
                connection, _ = server.accept()
                try:
                    tls.wrap_socket(connection, server_side=True).close()
                except OSError:
                    connection.close()

            thread = Thread(target=shake)
            thread.start()
            check = check_door((ADDRESS, place.port), identity)
            thread.join()
        return check


class TestTheMachine:
    AT = datetime(2026, 11, 25, 12, tzinfo=UTC)

    def status(self, **fields: Any) -> Status:
        return Status(running=True, version="1", **fields)

    def test_an_agent_that_does_not_answer(self) -> None:
        check = check_agent(None, "the agent at S does not answer within 5 s")
        assert check.sentence == "It could not be asked: the agent at S does not answer within 5 s."

    def test_polls(self) -> None:
        long_ago = self.AT - timedelta(minutes=30)
        quiet = check_polls(self.status(started_at=long_ago), self.AT)
        assert (quiet.level, quiet.sentence) == ("warning", "The centre has not polled for 30 minutes.")
        assert check_polls(self.status(started_at=long_ago, last_poll_at=self.AT), self.AT).level == "ok"
        assert check_polls(self.status(started_at=self.AT), self.AT).level == "ok"
        unlinked = check_polls(self.status(link=LinkStatus(mode="dial-out")), self.AT)
        assert (unlinked.level, unlinked.sentence) == ("problem", "The link to the gateway is not there.")

    def test_open_files(self) -> None:
        assert check_files(64).level == "problem"
        assert check_files(1024).level == "ok"
        assert check_files(-1).level == "ok"

    @pytest.mark.parametrize(
        ("said", "level", "sentence"),
        [
            ("enabled", "ok", "archipelago-agent.service is enabled."),
            ("disabled", "warning", "archipelago-agent.service is disabled."),
            ("", "warning", "archipelago-agent.service is not installed."),
        ],
    )
    def test_systemd(
        self, said: str, level: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(machine, "_BOOTED", tmp_path)
        (tmp_path / "systemctl").write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / "systemctl").chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        check = check_systemd()
        assert (check.level, check.sentence) == (level, sentence)

    def test_no_systemd(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(machine, "_BOOTED", tmp_path / "none")
        assert check_systemd().sentence == "This machine does not run systemd."


def test_every_problem_and_warning_has_a_remedy(place: Place) -> None:
    place.gateway.close()
    keep(place.folder, place.fleet.site(SITE, at=now() - timedelta(days=8)))
    found = [check for check in place.examine().values() if check.level != "ok"]
    assert {"agent", "certificate", "gateway"} <= {check.name for check in found}
    assert all(check.remedy for check in found)
