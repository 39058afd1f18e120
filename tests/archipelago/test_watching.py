"""`rollout watch` as a process of its own: piped, as JSON, and on a terminal."""

import json
import os
import pty
import select
import time
from collections.abc import Iterator
from typing import Any

import pytest

from archipelago.commands import watching
from archipelago.errors import NoAnswerError, RefusedError
from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import tick

pytestmark = pytest.mark.usefixtures("database")
SECONDS = 60.0


def lines_of(process: Any) -> Iterator[str]:
    """Lines as they come, without the time."""
    for line in process.stdout:
        yield line.rstrip("\n").partition("Z ")[2]


def succeed(played: Any) -> None:
    """The rollout goes to its end."""
    played.applied(0)
    for _ in range(5):
        tick()
    assert played.now().state == "succeeded"


def test_piped_it_prints_a_line_for_each_change_and_ends_with_the_rollout(terminal, play):
    played = play(1).run()
    process = terminal("viewer").start("rollout", "watch", 1, "--every", 0.2)
    lines = lines_of(process)
    assert next(lines) == "Rollout 1 'spring' to 2026.11-r2: running"
    assert next(lines) == "wave 1 'wave 0' open: 1 claimed"
    played.do(control.pause, reason="wait\x1b[2J")
    assert next(lines) == "Rollout 1 'spring' to 2026.11-r2: paused (stopped), because wait?[2J"
    played.do(control.resume)
    succeed(played)
    rest = list(lines)
    assert rest[-2:] == [
        "Rollout 1 'spring' to 2026.11-r2: succeeded",
        "wave 1 'wave 0' passed: 1 proven",
    ]
    assert process.wait(SECONDS) == 0
    assert process.communicate() == ("", "")


def test_a_rollout_that_is_given_up_ends_it_with_one(terminal, play):
    played = play(1).run()
    process = terminal("viewer").start("rollout", "watch", 1, "--every", 0.2, "--json")
    first = json.loads(process.stdout.readline())
    assert (first["state"], first["counts"]) == ("running", {"claimed": 1})
    played.do(control.abort, reason="enough")
    played.applied(0)
    for _ in range(4):
        tick()
    assert played.now().state == "aborted"
    seen = [json.loads(line)["state"] for line in process.stdout]
    assert seen[-1] == "aborted"
    assert process.wait(SECONDS) == 1
    assert process.communicate() == ("", "")


def test_what_has_ended_is_told_at_once(terminal, play):
    played = play(1).run()
    succeed(played)
    text = terminal("viewer").ok("rollout", "watch", 1)
    assert "Rollout 1 'spring' to 2026.11-r2: succeeded" in text


def test_a_rollout_that_is_not_there_is_not_watched(terminal):
    status, _, err = terminal("viewer").run("rollout", "watch", 5)
    assert (status, err) == (1, "archipelago: There is no such rollout, or it is not yours to see.\n")


def test_on_a_terminal_one_picture_is_drawn_anew(terminal, play):
    played = play(1).run()
    ours, theirs = pty.openpty()
    it = terminal("viewer")
    it.environ["LINES"], it.environ["COLUMNS"] = "12", "100"
    process = it.start("rollout", "watch", 1, "--every", 0.2, stdout=theirs)
    os.close(theirs)
    seen = read_until(ours, b"Ctrl-C ends the watching")
    assert b"[>>>>>>>>>>>>>>>>>>>>>>>>]" in seen
    succeed(played)
    seen += read_until(ours, b"It ended: succeeded.")
    assert process.wait(SECONDS) == 0
    assert b"\x1b[" in seen  # drawn over what stood there
    assert b"[########################]" in seen
    assert process.stderr.read() == ""
    process.stderr.close()
    os.close(ours)


def read_until(terminal: int, words: bytes) -> bytes:
    """What the terminal shows, up to these words."""
    seen, deadline = b"", time.monotonic() + SECONDS
    while words not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1.0)[0]:
            seen += os.read(terminal, 65_536)
    return seen


def test_it_goes_on_when_nobody_answers_for_a_while(capsys, monkeypatch):
    rows = [
        NoAnswerError("x does not answer."),
        NoAnswerError("x does not answer."),
        RefusedError(503, "unavailable", "The database is away.", {}),
        RefusedError(404, "not_found", "It is gone.", {}),
    ]

    class Api:
        def get(self, path: str) -> Any:
            raise rows.pop(0)

    monkeypatch.setattr(watching, "client", Api)
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: None)
    options = type("Options", (), {"json": False, "rollout": 1, "every": 1.0})()
    with pytest.raises(RefusedError, match="It is gone"):
        watching._watch(options)
    told = [line.partition("Z ")[2] for line in capsys.readouterr().err.splitlines()]
    assert told == ["x does not answer. Trying again.", "The database is away. Trying again."]
