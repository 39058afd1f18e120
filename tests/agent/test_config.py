"""The configuration file: what is taken, and the sentence for what is not."""

from pathlib import Path

import pytest

from agent.config import (
    Config,
    ConfigError,
    ContainerProbe,
    DiskProbe,
    HttpProbe,
    Registry,
    TcpProbe,
    read_config,
    split_listen,
)
from tests.agent.wire import ROOT

HTTP = 'listen = "0.0.0.0:9100"\n[[probes]]\nkind = "http"\nname = "web"\nurl = "http://127.0.0.1/"\n'
DISK = 'dial_out = true\n[[probes]]\nkind = "disk"\nname = "disk"\npath = "/"\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def refusal(file: Path, text: str) -> str:
    """What is said of a file, without its name, which it must begin with."""
    file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_config(file)
    said = str(refused.value)
    assert said.startswith(str(file))
    assert "\n" not in said
    return said.removeprefix(str(file)).removeprefix(": ")


def test_everything_has_a_default_but_the_way_the_site_is_reached(file: Path) -> None:
    file.write_text('listen = "0.0.0.0:9100"')
    config = read_config(file)
    assert config == Config(listen="0.0.0.0:9100")
    assert (config.state, config.endpoint, config.log_level, config.journal_bytes, config.probes) == (
        *("/var/lib/archipelago-agent", ("0.0.0.0", 9100), "info", 256 << 20),
        (),
    )
    file.write_text("dial_out = true")
    assert read_config(file).endpoint is None


def test_probes_are_read_with_their_defaults(file: Path) -> None:
    file.write_text(HTTP + DISK.removeprefix("dial_out = true\n"))
    web, disk = read_config(file).probes
    assert web == HttpProbe(name="web", url="http://127.0.0.1/")
    assert (web.interval_s, web.timeout_s, web.fall, web.rise, web.severity) == (15, 5, 3, 2, "down")
    assert disk == DiskProbe(name="disk", path="/")
    assert (disk.interval_s, disk.severity) == (60, "degraded")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "site = 1",
            "site is not known here; allowed are state, listen, dial_out, log_level, journal_bytes, probes, engine, os",
        ),
        (
            "dial_out = true\n[os]\nallow = 1",
            "os.allow is not known here; allowed are updater, also, without_rollback, reboot, reboot_windows,"
            " time_zone",
        ),
        (
            'dial_out = true\n[os]\nreboot_windows = ["Sunday"]',
            "os: 'Sunday' is no window such as `Sun 02:00-04:00` or `23:00-01:00`",
        ),
        ('dial_out = true\n[os]\ntime_zone = "Mars/Olympus"', "os: no time zone 'Mars/Olympus'"),
        ("", 'give either listen = "ADDRESS:PORT" or dial_out = true: a site is dialled or calls, not both'),
        (
            'listen = "0.0.0.0:1"\ndial_out = true',
            'give either listen = "ADDRESS:PORT" or dial_out = true: a site is dialled or calls, not both',
        ),
        ("listen = 9100", "listen: expected `str | null`, got `int`"),
        ('listen = "gate:9100"', "listen: 'gate:9100' is not ADDRESS:PORT, such as 0.0.0.0:9100 or [::]:9100"),
        ('dial_out = "yes"', "dial_out: expected `bool`, got `str`"),
        ('dial_out = true\nlog_level = "loud"', "log_level: allowed are debug, info, warning, error"),
        ("dial_out = true\njournal_bytes = 1000", "journal_bytes: expected `int` >= 4194304"),
        ('dial_out = true\nstate = "here"', "state: 'here' is not an absolute path"),
        ('dial_out = true\nprobes = "none"', "probes: expected `array`, got `str`"),
        ('[[probes]]\nname = "web"', "probes[0].kind is missing; allowed are http, tcp, disk, temperature, container"),
        ('[[probes]]\nkind = "icmp"', "probes[0].kind: allowed are http, tcp, disk, temperature, container"),
        ('[[probes]]\nkind = "tcp"\nname = "db"\nhost = "h"', "probes[0].port is missing"),
        (
            DISK + "port = 1",
            "probes[0].port is not known here; allowed are kind, name, interval_s, timeout_s, fall, rise, path,"
            " warn_ratio, critical_ratio, severity",
        ),
        (HTTP + 'severity = "up"', "probes[0].severity: allowed are degraded, down"),
        (HTTP + "fall = 0", "probes[0].fall: expected `int` >= 1"),
        (HTTP + "interval_s = 2", "probes[0].timeout_s: at most interval_s, which is 2"),
        (HTTP + "timeout_s = nan", "probes[0].timeout_s: expected `float` >= 0.1"),
        (HTTP + "expect_status = 1000", "probes[0].expect_status: expected `int` <= 599"),
        (DISK + "warn_ratio = 85", "probes[0].warn_ratio: expected `float` <= 1.0"),
        (DISK + "warn_ratio = 0.95", "probes[0].warn_ratio: must be below critical_ratio"),
        (DISK.replace('"/"', '"var"'), "probes[0].path: 'var' is not an absolute path"),
        (HTTP + HTTP.partition("\n")[2], "probes[1].name: 'web' stands twice; each probe needs a name of its own"),
        (HTTP.replace('"web"', '"a\\u0007b"'), "probes[0].name: only printable characters are allowed"),
        (
            'dial_out = true\n[[probes]]\nkind = "temperature"\nname = "t"\nwarn_celsius = 95',
            "probes[0].warn_celsius: must be below critical_celsius",
        ),
        (
            'dial_out = true\n[[probes]]\nkind = "container"\nname = "t"\ncontainer = "../secrets"',
            "probes[0].container: expected `str` matching regex '^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\\\\Z'",
        ),
        (
            'dial_out = true\n[[probes]]\nkind = "container"\nname = "t"\ncontainer = "pos"\nsocket = "docker.sock"',
            "probes[0].socket: 'docker.sock' is not an absolute path",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_by_key_and_what_is_allowed(file: Path, text: str, said: str) -> None:
    assert refusal(file, text) == said


@pytest.mark.parametrize(
    "url", ["ftp://h/", "http://", "h/p", "http://h:0/", "http://h:x/", "http://h/ x", "http://ü/"]
)
def test_an_address_that_is_none(file: Path, url: str) -> None:
    said = refusal(file, HTTP.replace("http://127.0.0.1/", url))
    assert said == f"probes[0].url: {url!r} is not http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH in ASCII"


def test_a_password_in_an_address_is_refused(file: Path) -> None:
    said = refusal(file, HTTP.replace("127.0.0.1", "user:secret@127.0.0.1"))
    assert said == "probes[0].url: user and password do not belong into a probe's address"


def test_more_probes_than_a_report_has_reasons_for(file: Path) -> None:
    probes = "".join(f'[[probes]]\nkind = "tcp"\nname = "{n}"\nhost = "h"\nport = 1\n' for n in range(33))
    assert refusal(file, "dial_out = true\n" + probes) == "probes: expected `array` of length <= 32"


def test_files_that_cannot_be_read(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent.toml cannot be read: no such file or directory$"):
        read_config(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"agent.toml is not UTF-8 text$"):
        read_config(file)
    file.write_text("listen = ")
    with pytest.raises(ConfigError, match=r"agent.toml is not TOML: Invalid value \(at end of document\)$"):
        read_config(file)


@pytest.mark.parametrize("text", ["", "9100", ":9100", "0.0.0.0", "0.0.0.0:", "0.0.0.0:0", "0.0.0.0:65536", "::9100",
                                  "[0.0.0.0]:9100", "0.0.0.0:٩", "localhost:9100", "1.2.3:9100"])  # fmt: skip
def test_what_cannot_be_listened_at(text: str) -> None:
    with pytest.raises(ValueError, match="is not ADDRESS:PORT"):
        split_listen(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[engine]\nsocket = "docker.sock"', "engine.socket: 'docker.sock' is not an absolute path"),
        ('[engine]\nfolders = ["srv"]', "engine.folders: 'srv' is not an absolute path"),
        ("[engine]\nprivileged = true", "engine.privileged is not known here"),
    ],
)
def test_an_engine_that_cannot_be_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f"dial_out = true\n{text}\n")
    with pytest.raises(ConfigError) as refused:
        read_config(path)
    assert said in str(refused.value)


def test_what_can_be_listened_at() -> None:
    assert [split_listen(text) for text in ("127.0.0.1:1", "[::]:65535")] == [("127.0.0.1", 1), ("::", 65_535)]


class TestTheExamples:
    """What operators begin with."""

    def test_each_is_good(self) -> None:
        folder = ROOT / "deploy" / "agent" / "examples"
        found = {path.stem: read_config(path) for path in folder.glob("*.toml")}
        assert set(found) == {"direct", "dial-out", "containers", "engine"}
        engine = found["engine"].engine
        assert engine is not None
        assert engine.registries == (
            Registry(
                registry="registry.example.org",
                username="site-17",
                password_file="/etc/archipelago-agent/registry-password",
            ),
        )
        assert found["engine"].os.reboot_windows == ("Sun 02:00-04:00",)
        assert found["direct"].endpoint == ("0.0.0.0", 9100)
        assert found["direct"].probes == (DiskProbe(name="root filesystem", path="/", interval_s=60),)
        assert found["dial-out"].endpoint is None
        assert [type(probe) for probe in found["dial-out"].probes][:2] == [HttpProbe, TcpProbe]
        assert found["containers"].probes[0] == ContainerProbe(name="point of sale", container="pos")
