"""The environment is read by type, and what is wrong is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet import env
from fleet.env import EnvironmentError_


@pytest.fixture(autouse=True)
def run_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No run file, until a test writes one."""
    path = tmp_path / "env.json"
    monkeypatch.setattr(env, "RUN_FILE", path)
    for name in ("PROBE", "PROBE_FILE"):
        monkeypatch.delenv(name, raising=False)
    return path


def test_a_value_comes_from_the_environment_a_file_the_run_file_or_the_default(monkeypatch, run_file, tmp_path):
    assert env.text("PROBE", "default") == "default"
    run_file.write_text(json.dumps({"PROBE": "running", "NUMBER": 5}))
    assert env.text("PROBE", "default") == "running"
    assert env.text("NUMBER") == "5"
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")
    monkeypatch.setenv("PROBE_FILE", str(secret))
    assert env.text("PROBE", "default") == "from a file"
    monkeypatch.setenv("PROBE", "set")
    assert env.text("PROBE", "default") == "set"
    monkeypatch.setenv("PROBE", "")
    assert env.text("PROBE", "default") == ""


def test_what_is_missing_is_named(monkeypatch, run_file):
    with pytest.raises(EnvironmentError_, match="PROBE is not set"):
        env.text("PROBE")
    monkeypatch.setenv("PROBE_FILE", "/no/such/file")
    with pytest.raises(EnvironmentError_, match="PROBE_FILE cannot be read"):
        env.text("PROBE")
    monkeypatch.delenv("PROBE_FILE")
    run_file.write_text("{")
    with pytest.raises(EnvironmentError_, match=r"env\.json cannot be read"):
        env.text("PROBE")


@pytest.mark.parametrize(("raw", "found"), [("1", 1), ("10", 10), (" 7 ", 7)])
def test_whole_numbers(monkeypatch, raw, found):
    monkeypatch.setenv("PROBE", raw)
    assert env.integer("PROBE", 3, least=1, most=10) == found


@pytest.mark.parametrize("raw", ["0", "11", "x", "", "1.5", "1e3", "0x1"])
def test_numbers_that_cannot_be_are_refused(monkeypatch, raw):
    monkeypatch.setenv("PROBE", raw)
    with pytest.raises(EnvironmentError_, match="PROBE must be"):
        env.integer("PROBE", 3, least=1, most=10)


@pytest.mark.parametrize(
    ("raw", "found"),
    [("1", True), ("TRUE", True), ("yes", True), ("on", True), ("0", False), ("off", False), ("", False)],
)
def test_flags(monkeypatch, raw, found):
    monkeypatch.setenv("PROBE", raw)
    assert env.flag("PROBE", default=not found) is found


def test_a_flag_that_is_neither_is_refused(monkeypatch):
    assert env.flag("PROBE", default=True) is True
    monkeypatch.setenv("PROBE", "maybe")
    with pytest.raises(EnvironmentError_, match="PROBE must be 0 or 1"):
        env.flag("PROBE", default=True)


def test_words(monkeypatch):
    monkeypatch.setenv("PROBE", " a, b ,,c,")
    assert env.words("PROBE") == ["a", "b", "c"]
    assert env.words("PROBE_TWO") == []


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("postgres://u:p@h:5433/d", {"USER": "u", "PASSWORD": "p", "HOST": "h", "PORT": "5433", "NAME": "d"}),
        ("postgresql://u@/d?host=/run/pg", {"USER": "u", "PASSWORD": "", "HOST": "/run/pg", "PORT": "", "NAME": "d"}),
        ("postgres://u%40x:p%2F%3A@h/d", {"USER": "u@x", "PASSWORD": "p/:", "HOST": "h", "PORT": "", "NAME": "d"}),
        ("postgres://u@[::1]:5432/d", {"USER": "u", "PASSWORD": "", "HOST": "::1", "PORT": "5432", "NAME": "d"}),
    ],
)
def test_database_urls(monkeypatch, url, found):
    monkeypatch.setenv("PROBE", url)
    settings = env.database("PROBE")
    assert {name: settings[name] for name in found} == found
    assert (settings["ENGINE"], settings["OPTIONS"]) == ("django.db.backends.postgresql", {})


def test_options_of_a_database_url_are_kept(monkeypatch):
    monkeypatch.setenv("PROBE", "postgres://u@h/d?sslmode=verify-full&host=/socket")
    assert env.database("PROBE")["OPTIONS"] == {"sslmode": "verify-full"}


@pytest.mark.parametrize("url", ["mysql://u@h/d", "sqlite:///d", "postgres://u@h", "postgres://u@h/", "nonsense"])
def test_other_databases_are_refused(monkeypatch, url):
    monkeypatch.setenv("PROBE", url)
    with pytest.raises(EnvironmentError_, match="PROBE"):
        env.database("PROBE")


@pytest.mark.parametrize(
    ("url", "channel", "broker"),
    [
        ("redis://h:6379", "redis://h:6379/1", "redis://h:6379/0"),
        ("redis://:p@h:6379/7", "redis://:p@h:6379/1", "redis://:p@h:6379/0"),
        ("rediss://h", "rediss://h/1", "rediss://h/0"),
        ("unix:///run/r.sock", "unix:///run/r.sock?db=1", "redis+socket:///run/r.sock?virtual_host=0"),
    ],
)
def test_redis_urls(monkeypatch, url, channel, broker):
    monkeypatch.setenv("REDIS_URL", url)
    assert (env.redis_url(1), env.broker_url()) == (channel, broker)


def test_another_broker_is_refused(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "amqp://h")
    with pytest.raises(EnvironmentError_, match="REDIS_URL"):
        env.redis_url(0)


def test_a_process_without_its_settings_says_which_and_stops():
    environ: dict[str, Any] = {"PATH": "/usr/bin:/bin"}
    code = "import fleet.env, pathlib; fleet.env.RUN_FILE = pathlib.Path('/no/such/file'); import fleet.settings"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=env.ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr


def test_numbers_choices_and_names_of_fleets(monkeypatch):
    assert (env.numbers("PROBE"), env.choice("PROBE", ("a", "b")), env.dns_name("PROBE", "x.y")) == ([], "a", "x.y")
    monkeypatch.setenv("PROBE", "0, 33,1000")
    assert env.numbers("PROBE") == [0, 33, 1000]
    for raw in ("-1", "x", "1;2", "1.5", "²"):
        monkeypatch.setenv("PROBE", raw)
        with pytest.raises(EnvironmentError_, match="PROBE must be whole numbers"):
            env.numbers("PROBE")
    monkeypatch.setenv("PROBE", "b")
    assert env.choice("PROBE", ("a", "b")) == "b"
    monkeypatch.setenv("PROBE", "c")
    with pytest.raises(EnvironmentError_, match="PROBE must be a or b, not 'c'"):
        env.choice("PROBE", ("a", "b"))
    for raw in ("", "Demo", "a..b", "-a", "a" * 121):
        monkeypatch.setenv("PROBE", raw)
        with pytest.raises(EnvironmentError_, match=r"PROBE: .* is not a DNS name"):
            env.dns_name("PROBE", "x")


def test_addresses_that_mail_comes_from(monkeypatch):
    assert env.mailbox("PROBE", "Some One <a@b.example>") == "Some One <a@b.example>"
    for raw in ("", "a", "a@b\nBcc: c@d", "a@b, c@d", "Some One <a>"):
        monkeypatch.setenv("PROBE", raw)
        with pytest.raises(EnvironmentError_, match="PROBE must be like"):
            env.mailbox("PROBE", "a@b")
