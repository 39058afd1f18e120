"""Where the API is, and what keeps a token from strangers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from archipelago.client import Client, path_of
from archipelago.config import Config, config_file, read_config
from archipelago.errors import NoAnswerError, RefusedError, UsageError

URL = "https://archipelago.example"


def kept(folder: Path, text: str, mode: int = 0o600) -> dict[str, str]:
    """An environment with a configuration file of this text."""
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(mode)
    return {"ARCHIPELAGO_CONFIG": str(path)}


def test_the_environment_wins_and_the_file_fills_in(tmp_path):
    environ = kept(tmp_path, f'url = "{URL}"\ntoken = "kept"\nca = "/ca.pem"\n')
    assert read_config(environ) == Config(URL, "kept", Path("/ca.pem"))
    assert read_config({**environ, "ARCHIPELAGO_TOKEN": "t"}) == Config(URL, "t", Path("/ca.pem"))
    both = {"ARCHIPELAGO_URL": "https://b.example", "ARCHIPELAGO_TOKEN": "t"}
    assert read_config({**environ, **both}) == Config("https://b.example", "t")
    assert read_config({**environ, "ARCHIPELAGO_URL": URL}).token == "kept"


def test_a_kept_token_goes_to_its_own_address_alone(tmp_path):
    environ = kept(tmp_path, f'url = "{URL}"\ntoken = "kept"\n')
    with pytest.raises(UsageError, match="is for another address"):
        read_config({**environ, "ARCHIPELAGO_URL": "https://evil.example"})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_token_that_others_may_read_is_refused(tmp_path, mode):
    with pytest.raises(UsageError, match="chmod 600"):
        read_config(kept(tmp_path, f'url = "{URL}"\ntoken = "t"\n', mode))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "There is no url: set ARCHIPELAGO_URL"),
        (f'url = "{URL}"', "There is no token: set ARCHIPELAGO_TOKEN"),
        ("url = ", "cannot be read"),
        ("url = 5", "not url"),
        ('user = "x"', "not user"),
        ("\x00", "cannot be read"),
    ],
)
def test_what_is_no_configuration_is_said(tmp_path, text, words):
    with pytest.raises(UsageError, match=words):
        read_config(kept(tmp_path, text))


def test_without_a_file_the_usual_place_is_named(tmp_path):
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert config_file(environ) == tmp_path / "archipelago" / "config.toml"
    with pytest.raises(UsageError, match=r"archipelago/config\.toml"):
        read_config(environ)
    with pytest.raises(UsageError, match="is not there"):
        read_config({"ARCHIPELAGO_CONFIG": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    "url",
    [
        "archipelago.example",
        "ftp://x",
        "https://",
        "https://u:p@x",
        "https://x:0",
        "https://x/?a",
        "https://x\n",
        "https://[",
        "",
    ],
)
def test_what_is_no_address_is_said(url):
    with pytest.raises(UsageError, match="is no address"):
        Client(Config(url, "t"))


def test_a_token_goes_in_clear_to_this_machine_alone():
    for url in ("http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"):
        Client(Config(url, "t"))
    for url in ("http://archipelago.example", "http://10.0.0.1", "http://localhost.evil.example", "http://0.0.0.0"):
        with pytest.raises(UsageError, match="in clear"):
            Client(Config(url, "t"))


def test_a_token_or_certificates_that_cannot_be_are_said(tmp_path):
    with pytest.raises(UsageError, match="The token is none"):
        Client(Config(URL, "a\r\nX-Evil: 1"))
    with pytest.raises(UsageError, match="cannot be read"):
        Client(Config(URL, "t", tmp_path / "none.pem"))


def test_parts_of_paths_are_quoted():
    assert path_of("sites", "../x?y#z") == "/sites/..%2Fx%3Fy%23z"


# The wire ---------------------------------------------------------------------------------------------------
class Wire:
    """A server that gives these answers, one a request; None: it hangs up."""

    def __init__(self, *answers: tuple[int, bytes] | None) -> None:
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        left, seen = list(answers), self.seen

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                seen.append((self.command, self.path, dict(self.headers)))
                answer = left.pop(0)
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                self.send_header("Location", "https://evil.example/")
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.client = Client(Config(f"http://127.0.0.1:{self.server.server_port}/below/", "t"), timeout_s=5)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def wire() -> Iterator[Any]:
    made: list[Wire] = []

    def make(*answers: tuple[int, bytes] | None) -> Wire:
        made.append(Wire(*answers))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


def test_a_change_that_got_no_answer_is_sent_again_with_the_same_key(wire):
    it = wire(None, (200, b'{"id": 1}'))
    assert it.client.send("POST", "/rollouts", {"name": "x"}) == {"id": 1}
    keys = [headers["Idempotency-Key"] for _, _, headers in it.seen]
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert it.seen[0][:2] == ("POST", "/below/api/v1/rollouts")
    assert it.seen[0][2]["Authorization"] == "Bearer t"


def test_what_heeds_no_key_is_not_sent_again(wire):
    it = wire(None, (200, b"{}"))
    with pytest.raises(NoAnswerError, match="does not answer"):
        it.client.send("PUT", "/rollouts/1/plan", {})
    assert len(it.seen) == 1


def test_redirects_are_not_followed(wire):
    it = wire((302, b""), (302, b""))
    with pytest.raises(NoAnswerError, match="answered 302, and not as Archipelago does"):
        it.client.get("/sites")


@pytest.mark.parametrize(
    "answer", [(200, b"<html>"), (200, b"[1]"), (500, b'{"error": 5}'), (404, b""), (200, b"\xff")]
)
def test_what_is_not_archipelago_is_said(wire, answer):
    it = wire(answer, answer)
    with pytest.raises(NoAnswerError, match="is the address right"):
        it.client.get("/sites")


def test_a_refusal_carries_what_the_api_says(wire):
    body = {"error": {"code": "invalid", "message": "No.", "details": {"sites": "too many"}}}
    it = wire((422, json.dumps(body).encode()))
    with pytest.raises(RefusedError, match="No") as raised:
        it.client.send("POST", "/x", {})
    assert (raised.value.http, raised.value.code, raised.value.details) == (422, "invalid", {"sites": "too many"})
    assert raised.value.status == 1


def test_pages_are_read_until_the_last_or_enough(wire):
    pages = [(200, json.dumps({"items": [{"n": n}], "next": next_}).encode()) for n, next_ in ((1, "a"), (2, None))]
    it = wire(*pages)
    assert list(it.client.pages("/sites", {"q": "", "state": "up"})) == [{"n": 1}, {"n": 2}]
    assert [path for _, path, _ in it.seen] == [
        "/below/api/v1/sites?state=up&limit=500",
        "/below/api/v1/sites?state=up&limit=500&cursor=a",
    ]
    it = wire(pages[0])
    assert list(it.client.pages("/sites", limit=1)) == [{"n": 1}]
