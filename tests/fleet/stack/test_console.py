"""What is printed, and what is not."""

import io
from pathlib import Path

from fleet.stack import console
from fleet.stack.console import Console, LogFile


def printed(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def test_no_address_but_the_closing_one() -> None:
    stream = io.StringIO()
    shown = Console(stream)
    shown.relay("web", "Uvicorn running on http://127.0.0.1:8000 (see https://example.org)")
    shown.say("asking http://127.0.0.1:8000/readyz")
    shown.closing("Archipelago is ready at http://127.0.0.1:8000")
    assert printed(stream) == [
        "web      | Uvicorn running on 127.0.0.1:8000 (see example.org)",
        "stack    | asking 127.0.0.1:8000/readyz",
        "Archipelago is ready at http://127.0.0.1:8000",
    ]


def test_quiet_shows_warnings_and_what_belongs_to_them() -> None:
    stream = io.StringIO()
    shown = Console(stream)
    shown.quiet = True
    loud = False
    for line in (
        "12:00:01.250 INFO sites.poller polled sites=300",
        "12:00:01.250 ERROR django.request failed",
        "Traceback (most recent call last):",
        '  File "fleet/views.py", line 1, in overview',
        "12:00:02.250 INFO sites.poller polled sites=300",
        "  not a part of the error",
    ):
        loud = shown.relay("web", line, loud_before=loud)
    assert printed(stream) == [
        "web      | 12:00:01.250 ERROR django.request failed",
        "web      | Traceback (most recent call last):",
        'web      |   File "fleet/views.py", line 1, in overview',
    ]


def test_control_characters_do_not_reach_the_terminal() -> None:
    stream = io.StringIO()
    Console(stream).relay("demo0", "name \x1b]0;owned\x07 and \x9b31m")
    assert printed(stream) == ["demo0    | name ?]0;owned? and ?31m"]


class Gone(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_stops_nothing() -> None:
    shown = Console(Gone())
    assert shown.relay("web", "12:00:01.250 ERROR django.request failed") is True
    shown.say("stopping")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_only_on_a_terminal_that_wants_them(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("NO_COLOR", raising=False)
    coloured = Terminal()
    Console(coloured).relay("web", "up")
    assert coloured.getvalue() == "\x1b[36mweb      |\x1b[0m up\n"
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Terminal()
    Console(plain).relay("web", "up")
    assert plain.getvalue() == "web      | up\n"


def test_log_files_are_bounded(tmp_path: Path) -> None:
    file = LogFile(tmp_path, "web")
    line = b"x" * 999 + b"\n"
    for _ in range(2 * console.LOG_BYTES // len(line) + 10):
        file.write(line)
    file.close()
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes.keys() == {"web.log", "web.log.1"}
    assert max(sizes.values()) <= console.LOG_BYTES + len(line)
