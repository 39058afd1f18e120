"""The agent's configuration: one TOML file, read strictly, refused with a sentence that says where and what instead."""

import re
import tomllib
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from agent.apply.reboot_window import is_open, read_window
from agent.state import why
from agent.updater.messages import SOCKET

CONFIG_FILE: Final = Path("/etc/archipelago-agent/agent.toml")
STATE_FOLDER: Final = Path("/var/lib/archipelago-agent")
MAX_PROBES: Final = 32

LogLevel = Literal["debug", "info", "warning", "error"]
Severity = Literal["degraded", "down"]
Seconds = Annotated[float, Meta(ge=0.1, le=3600)]
Streak = Annotated[int, Meta(ge=1, le=100)]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Celsius = Annotated[float, Meta(ge=-60, le=150)]
Share = Annotated[float, Meta(gt=0, le=1)]
ProbeName = Annotated[str, Meta(min_length=1, max_length=64)]
Line = Annotated[str, Meta(min_length=1, max_length=1_000)]
_AT: Final = re.compile(r" - at `\$(?P<key>.*)`\Z")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL)


class ConfigError(Exception):
    """The configuration cannot be used; the message names file, key and what is allowed, in one line."""


class Common(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"):
    """What every probe has. `fall` bad results in a row make it bad, `rise` good ones make it good again."""

    name: ProbeName
    interval_s: Seconds = 15.0
    timeout_s: Seconds = 5.0
    fall: Streak = 3
    rise: Streak = 2


class HttpProbe(Common, frozen=True, kw_only=True, tag="http"):
    """Asks for a page by GET and follows no redirect; good with the expected status, and the text in the body if given.

    `ca_file` holds the certificates that may have issued the server's, in place of the machine's own.
    """

    url: Line
    expect_status: Annotated[int, Meta(ge=100, le=599)] = 200
    contains: Line | None = None
    ca_file: Line | None = None
    severity: Severity = "down"


class TcpProbe(Common, frozen=True, kw_only=True, tag="tcp"):
    """Good when a connection can be made."""

    host: Line
    port: Port
    severity: Severity = "down"


class DiskProbe(Common, frozen=True, kw_only=True, tag="disk"):
    """How full the filesystem of a path is: degraded from `warn_ratio` on, `severity` from `critical_ratio` on."""

    path: Line
    warn_ratio: Share = 0.85
    critical_ratio: Share = 0.95
    interval_s: Seconds = 60.0
    severity: Severity = "degraded"


class TemperatureProbe(Common, frozen=True, kw_only=True, tag="temperature"):
    """How hot the CPU is: degraded from `warn_celsius` on, `severity` from `critical_celsius` on."""

    warn_celsius: Celsius = 80.0
    critical_celsius: Celsius = 95.0
    interval_s: Seconds = 30.0
    severity: Severity = "degraded"


class ContainerProbe(Common, frozen=True, kw_only=True, tag="container"):
    """Asks a container engine's API over its unix socket: good when it runs, and is healthy where it says so."""

    container: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}\Z")]
    socket: Line = "/var/run/docker.sock"
    severity: Severity = "down"


Probe = HttpProbe | TcpProbe | DiskProbe | TemperatureProbe | ContainerProbe
KINDS: Final = {kind.__struct_config__.tag: kind for kind in get_args(Probe)}


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who the site is at a registry of images; the first line of `password_file` is the password."""

    registry: Line
    username: Line
    password_file: Line


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The container engine whose workloads the centre may change, and what a document may ask of it.

    `folders` are those of the machine that may be mounted into containers, they and all below them.
    """

    socket: Line = "/var/run/docker.sock"
    interval_s: Seconds = 5.0
    folders: Annotated[tuple[Line, ...], Meta(max_length=64)] = ()
    registries: Annotated[tuple[Registry, ...], Meta(max_length=64)] = ()


class OsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What documents may do to this machine's packages; archipelago-updater obeys it, and reads it for itself.

    `also` are patterns (`libssl*`) of packages that may come along as dependencies though no document names them. With
    `without_rollback` packages may be replaced even where the ones before cannot be kept. `reboot` lets the machine be
    booted anew, with `window` documents only within `reboot_windows`, which are of `time_zone`.
    """

    updater: Line = SOCKET
    also: Annotated[tuple[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9+.*?-]*\Z")], ...], Meta(max_length=64)] = ()
    without_rollback: bool = False
    reboot: bool = False
    reboot_windows: Annotated[tuple[Line, ...], Meta(max_length=32)] = ()
    time_zone: Line = "UTC"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file. Who the site is stands not in it: the identity in the state folder knows."""

    state: Line = str(STATE_FOLDER)
    listen: Line | None = None
    dial_out: bool = False
    log_level: LogLevel = "info"
    journal_bytes: Annotated[int, Meta(ge=4 << 20, le=1 << 40)] = 256 << 20
    probes: Annotated[tuple[Probe, ...], Meta(max_length=MAX_PROBES)] = ()
    engine: EngineConfig | None = None
    os: OsConfig = OsConfig()

    @property
    def folder(self) -> Path:
        """The state folder."""
        return Path(self.state)

    @property
    def endpoint(self) -> tuple[str, int] | None:
        """Address and port to listen at; None where the site calls the gateway."""
        return split_listen(self.listen) if self.listen is not None and not self.dial_out else None


def read_config(path: Path) -> Config:
    """The configuration in a file. Raises ConfigError for whatever is not as it must be."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {why(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text") from None
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from None
    try:
        config = msgspec.convert(raw, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error), raw)}") from None
    try:
        _check(config)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    return config


def split_listen(text: str) -> tuple[str, int]:
    """Address and port of `ADDRESS:PORT`, an IPv6 address in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    address = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        version: int = ip_address(address).version
    except ValueError:
        version = 0
    good_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) < 65_536
    if not colon or not good_port or version == 0 or (version == 6) != (address != host):
        raise ValueError(f"{text!r} is not ADDRESS:PORT, such as 0.0.0.0:9100 or [::]:9100")
    return address, int(port)


_TABLES: Final[dict[str, type[Struct]]] = {"os": OsConfig, "engine": EngineConfig, "engine.registries": Registry}


# Checks that no type carries ----------------------------------------------------------------------------------
def _check(config: Config) -> None:
    """Raises ValueError with key and reason."""
    if not config.folder.is_absolute():
        raise ValueError(f"state: {config.state!r} is not an absolute path")
    if config.dial_out == (config.listen is not None):
        raise ValueError('give either listen = "ADDRESS:PORT" or dial_out = true: a site is dialled or calls, not both')
    if config.listen is not None:
        try:
            split_listen(config.listen)
        except ValueError as error:
            raise ValueError(f"listen: {error}") from None
    if config.engine is not None and (problem := _engine_problem(config.engine)):
        raise ValueError(f"engine.{problem}")
    _check_os(config.os)
    names = [probe.name for probe in config.probes]
    for place, probe in enumerate(config.probes):
        if probe.name in names[:place]:
            raise ValueError(f"probes[{place}].name: {probe.name!r} stands twice; each probe needs a name of its own")
        if problem := _probe_problem(probe):
            raise ValueError(f"probes[{place}].{problem}")


def _check_os(os: OsConfig) -> None:
    try:
        is_open(os.reboot_windows, os.time_zone, datetime.now(UTC))
        for window in os.reboot_windows:
            read_window(window)
    except ValueError as error:
        raise ValueError(f"os: {error}") from None


def _engine_problem(engine: EngineConfig) -> str | None:
    files = [("socket", engine.socket), *(("folders", folder) for folder in engine.folders)]
    files += [("registries.password_file", registry.password_file) for registry in engine.registries]
    for key, path in files:
        if not Path(path).is_absolute():
            return f"{key}: {path!r} is not an absolute path"
    names = [registry.registry for registry in engine.registries]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    return f"registries: {twice!r} stands twice" if twice is not None else None


def _probe_problem(probe: Probe) -> str | None:
    if not probe.name.isprintable():
        return "name: only printable characters are allowed"
    if probe.timeout_s > probe.interval_s:
        return f"timeout_s: at most interval_s, which is {probe.interval_s:g}"
    if isinstance(probe, HttpProbe):
        return _url_problem(probe.url)
    if isinstance(probe, DiskProbe):
        if not Path(probe.path).is_absolute():
            return f"path: {probe.path!r} is not an absolute path"
        return "warn_ratio: must be below critical_ratio" if probe.warn_ratio >= probe.critical_ratio else None
    if isinstance(probe, TemperatureProbe) and probe.warn_celsius >= probe.critical_celsius:
        return "warn_celsius: must be below critical_celsius"
    if isinstance(probe, ContainerProbe) and not Path(probe.socket).is_absolute():
        return f"socket: {probe.socket!r} is not an absolute path"
    return None


def _url_problem(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or not url.isascii() or not url.isprintable() or " " in url:
        return f"url: {url!r} is not http://HOST[:PORT]/PATH or https://HOST[:PORT]/PATH in ASCII"
    return "url: user and password do not belong into a probe's address" if parts.username is not None else None


# What msgspec says, in our words --------------------------------------------------------------------------------
def _explain(said: str, raw: dict[str, Any]) -> str:
    """Key, and what is wrong with it; what would be allowed where that is a list of words."""
    found = _AT.search(said)
    key = found["key"].lstrip(".") if found else ""
    said = said[: found.start()] if found else said
    if unknown := _UNKNOWN.match(said):
        return f"{_joined(key, unknown[1])} is not known here; allowed are {', '.join(_fields(key, raw))}"
    if missing := _MISSING.match(said):
        hint = f"; allowed are {', '.join(KINDS)}" if missing[1] == "kind" else ""
        return f"{_joined(key, missing[1])} is missing{hint}"
    words = {"log_level": get_args(LogLevel), "severity": get_args(Severity), "kind": tuple(KINDS)}
    allowed = words.get(key.rpartition(".")[2])
    if allowed and said.startswith("Invalid"):
        return f"{key}: allowed are {', '.join(allowed)}"
    return f"{key or 'the file'}: {said[:1].lower()}{said[1:]}"


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _fields(key: str, raw: dict[str, Any]) -> list[str]:
    """The keys that are allowed at a place: the file's own, those of a table, or those of a probe of its kind."""
    table = _TABLES.get(re.sub(r"\[\d+\]", "", key))
    if table is not None:
        return list(table.__struct_fields__)
    place = re.fullmatch(r"probes\[(\d+)\]", key)
    if place is None:
        return list(Config.__struct_fields__)
    kind = KINDS[raw["probes"][int(place[1])]["kind"]]
    return ["kind", *kind.__struct_fields__]
