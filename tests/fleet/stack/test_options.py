"""What `manage.py up` accepts, and the one line it says otherwise."""

import socket
from pathlib import Path

import pytest

from fleet.stack.errors import StackError
from fleet.stack.options import read_options, require_free


def test_defaults() -> None:
    options = read_options({})
    assert (options.url, options.sites, options.pollers) == ("http://127.0.0.1:8000", 60, 1)
    assert options.external.app is None
    assert options.external.redis is None


@pytest.mark.parametrize(("sites", "pollers"), [("7999", 1), ("8000", 2), ("20000", 3), ("100000", 13)])
def test_a_poller_for_every_8000_sites(sites: str, pollers: int) -> None:
    assert read_options({"SITES": sites}).pollers == pollers


def test_another_address_needs_tls(tmp_path: Path) -> None:
    for bind in ("0.0.0.0", "::", "192.0.2.7", "dashboard.example"):
        with pytest.raises(StackError, match=f"^BIND={bind} would show the dashboard to the network without TLS"):
            read_options({"BIND": bind})
    (tmp_path / "tls.pem").touch()
    tls = {"TLS_CERTIFICATE_FILE": str(tmp_path / "tls.pem"), "TLS_KEY_FILE": str(tmp_path / "tls.pem")}
    assert read_options({"BIND": "0.0.0.0", "PORT": "443", **tls}).url == "https://0.0.0.0:443"
    assert read_options({"BIND": "::1"}).url == "http://[::1]:8000"


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({"PORT": "http"}, "PORT must be a whole number from 1 to 65535, not 'http'."),
        ({"PORT": "65536"}, "PORT must be a whole number from 1 to 65535, not '65536'."),
        ({"SITES": "0"}, "SITES must be a whole number from 1 to 100000, not '0'."),
        ({"SITES": "²"}, "SITES must be a whole number from 1 to 100000, not '²'."),
        (
            {"DATABASE_URL": "postgres://a@b/c"},
            "DATABASE_URL and DATABASE_OWNER_URL come together: set both or neither.",
        ),
        ({"TLS_KEY_FILE": "/nonexistent"}, "TLS_KEY_FILE cannot be read: /nonexistent."),
        ({"REDIS_URL_FILE": "/nonexistent"}, "REDIS_URL_FILE cannot be read: /nonexistent."),
    ],
)
def test_what_cannot_be_used_is_named(environ: dict[str, str], line: str) -> None:
    with pytest.raises(StackError) as refused:
        read_options(environ)
    assert str(refused.value) == line


def test_secrets_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://cache.example:6379\n")
    assert read_options({"REDIS_URL_FILE": str(tmp_path / "url")}).external.redis == "redis://cache.example:6379"


def test_a_taken_port_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StackError) as refused:
            require_free(read_options({"PORT": str(port)}))
    assert str(refused.value) == f"Port {port} is taken by another program; choose another with PORT={port + 1}."
    require_free(read_options({"PORT": str(port)}))
