"""What the command line prints, asks and refuses, before a live server."""

import io
import json
from typing import Any

import pytest

from archipelago.cli import main
from archipelago.commands import saying
from fleet.rollouts.services import control
from fleet.rollouts.services.ticking import tick
from fleet.standards.services.judging import judge_due
from tests.fleet.rollouts.calls import contents, forget, recipe_for
from tests.fleet.rollouts.played import NEW_POS
from tests.fleet.standards.factories import make_ring, make_standard, report
from tests.sites.builders import KERNEL, POS

pytestmark = pytest.mark.usefixtures("database")


def complaint(seen: tuple[int, str, str], status: int = 1) -> str:
    """What was complained of, by a command that could not do its work."""
    assert seen[0] == status, seen
    assert seen[2].startswith("archipelago: "), seen
    return seen[2].removeprefix("archipelago: ").rstrip("\n")


# The fleet --------------------------------------------------------------------------------------------------
def test_sites_are_listed_filtered_and_cut(terminal, make_site, make_provider):
    own = make_provider("own")
    for slug, name in (("a", "Alster"), ("b", "Brocken"), ("c", "Chiemsee")):
        report(make_site(slug, own, name=name, region="DACH"), KERNEL, POS)
    it = terminal("viewer")
    lines = it.ok("sites").splitlines()
    assert lines[0].split() == ["SITE", "NAME", "STATE", "SINCE", "COMPLIANCE", "PROVIDER"]
    assert [line.split()[0] for line in lines[1:]] == ["a", "b", "c"]
    assert it.ok("sites", "--limit", 2).splitlines()[-1] == "These are the first 2; --limit shows more."
    assert it.ok("sites", "--region", "NORDICS") == "No site is like that.\n"
    assert [one["slug"] for one in json.loads(it.ok("sites", "--search", "brock", "--json"))] == ["b"]
    assert json.loads(it.ok("sites", "--state", "down", "--json")) == []


def test_one_site_is_found_by_slug_or_name(terminal, make_site):
    make_ring(make_standard("2026.11-r1"))
    report(make_site("depot", name="Oslo Depot"), KERNEL)
    make_site("twin-1", name="Twin")
    make_site("twin-2", name="Twin")
    judge_due()
    it = terminal("viewer")
    text = it.ok("site", "depot")
    assert text.splitlines()[0] == "Oslo Depot (depot): up"
    assert "compliance: drift with 2026.11-r1" in text
    assert "workload pos: not there; 4.2.1 is wanted" in text
    assert it.ok("site", "oslo depot").splitlines()[0] == "Oslo Depot (depot): up"
    assert json.loads(it.ok("site", "depot", "--json"))["judgement"]["compliance"] == "drift"
    assert complaint(it.run("site", "Twin")) == "2 sites are called 'Twin': twin-1, twin-2."
    assert complaint(it.run("site", "../etc")) == "There is no site '../etc', or it is not yours to see."


def test_compliance_in_figures_and_differences(terminal, make_site):
    make_ring(make_standard("2026.11-r1"))
    report(make_site("a"), KERNEL)
    report(make_site("b"), KERNEL, POS)
    judge_due()
    it = terminal("viewer")
    text = it.ok("compliance")
    assert text.splitlines()[0] == "2 sites: 1 conform, 1 drift, 0 unknown, 0 none"
    assert "STANDARD    SITES  CONFORM  DRIFT  UNKNOWN  NONE" in text
    assert "1      workload pos: not there; 4.2.1 is wanted" in text
    assert json.loads(it.ok("compliance", "--json"))["differences"][0]["sites"] == 1
    assert it.ok("compliance", "--region", "NORDICS").startswith("0 sites")


# Plans ------------------------------------------------------------------------------------------------------
def test_a_recipe_is_previewed_created_changed_and_submitted(terminal, play, tmp_path):
    played = play(3)
    forget()
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe_for(played)))
    it, before = terminal("operator"), contents()
    text = it.ok("rollout", "plan", file)
    assert text.startswith("3 sites of 3 selected would be brought to 2026.11-r2.\n1 person must approve it.")
    assert contents() == before
    assert it.ok("rollout", "plan", file, "--create").splitlines()[-1] == "Rollout 2 'summer' to 2026.11-r2: planned"
    file.write_text(json.dumps(recipe_for(played, name="autumn")))
    text = it.ok("rollout", "plan", file, "--change", 2, "--submit")
    assert "Rollout 2 'autumn' to 2026.11-r2: awaiting approval" in text
    assert text.splitlines()[-1] == "Still needed: 1 more person must approve."
    row = json.loads(it.ok("rollout", "show", 2, "--json"))
    assert (row["name"], row["state"]) == ("autumn", "awaiting_approval")


def test_a_plan_that_may_not_start_is_not_made(terminal, play, tmp_path):
    played = play(1)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe_for(played, select={"text": "nowhere"})))
    it, before = terminal("operator"), contents()
    status, out, err = it.run("rollout", "plan", file)
    assert (status, err) == (1, "")
    assert "FAULT at select: No active site fits this selection." in out
    assert complaint(it.run("rollout", "plan", file, "--create")) == "This plan may not start; nothing was made of it."
    assert contents() == before


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("{", 2, "is no JSON: line 1, column 2"),
        ("[]", 2, "holds no recipe"),
        ("\ud800", 2, "is no JSON"),
        ('{"standard": "2026.11-r2", "select": {"colour": 1}}', 1, "  select: there is no such member: colour"),
    ],
)
def test_what_is_no_recipe_is_said_with_its_place(terminal, play, tmp_path, text, status, words):
    play(1)
    file = tmp_path / "recipe.json"
    file.write_bytes(text.encode(errors="surrogatepass"))
    assert words.strip() in complaint(terminal("operator").run("rollout", "plan", file), status)


def test_a_missing_file_and_options_that_do_not_fit(terminal, play, tmp_path):
    played = play(1)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe_for(played)))
    it = terminal("operator")
    assert "none.json cannot be read" in complaint(it.run("rollout", "plan", tmp_path / "none.json"), 2)
    assert "--submit goes with" in complaint(it.run("rollout", "plan", file, "--submit"), 2)
    assert "Give one of" in complaint(it.run("rollout", "plan", file, "--create", "--change", 1), 2)


# Rollouts ---------------------------------------------------------------------------------------------------
def test_rollouts_and_steps_are_listed(terminal, play):
    it, played = terminal("viewer"), play(1, 1).run()
    played.fails(0)
    tick()
    head, line = it.ok("rollouts", "--active").splitlines()
    assert head.split()[:3] == ["ROLLOUT", "NAME", "STANDARD"]
    assert line.split()[:4] == ["1", "spring", "2026.11-r2", "paused"]
    assert it.ok("rollouts", "--state", "running") == "No rollout is like that.\n"
    steps = it.ok("rollout", "steps", 1, "--state", "failed").splitlines()
    assert steps[1].split()[:3] == [played.sites[0].slug, "1", "failed"]
    assert "unhealthy" in steps[1]
    assert len(json.loads(it.ok("rollout", "steps", 1, "--wave", 2, "--json"))) == 1
    text = it.ok("rollout", "show", 1)
    assert text.splitlines()[0] == "Rollout 1 'spring' to 2026.11-r2: paused (held)"
    assert "failed: 1 unhealthy" in text
    assert "You may do nothing to it now." in text
    assert "resume --choice skip-failed: " in terminal("operator").ok("rollout", "show", 1)


def test_a_rollout_from_approval_to_rollback(terminal, play):
    played = play(2)
    operator, manager = terminal("operator"), terminal("manager")
    text = operator.ok("rollout", "submit", 1)
    assert "1 person must approve it" in text
    assert text.splitlines()[-1] == "Still needed: 1 more person must approve."
    text = manager.ok("rollout", "approve", 1, "--reason", "fine")
    assert "You agree to this very plan for 2 sites." in text
    assert "Done. Rollout 1 'spring' to 2026.11-r2: awaiting approval" in text
    tick()
    assert "2 sites at work finish." in operator.ok("rollout", "pause", 1, "--reason", "wait", "--for", "2h")
    assert "paused (frozen)" in operator.ok("rollout", "pause", 1, "--freeze", "--reason", "wait")
    assert "running" in operator.ok("rollout", "resume", 1)
    assert "aborting" in operator.ok("rollout", "abort", 1, "--reason", "enough")
    status, out, err = operator.run("rollout", "rollback", 1, "--reason", "all", "--json")
    assert (status, json.loads(out)["state"]) == (0, "rolling_back")
    assert "2 sites go back" in err  # what it does is told, and the JSON stays JSON
    assert played.now().state == "rolling_back"


def test_a_wave_that_is_held_wants_a_choice(terminal, play):
    it, played = terminal("operator"), play(1, 1).run()
    played.fails(0)
    tick()
    words = complaint(it.run("rollout", "resume", 1))
    assert words.startswith("Rollout 1 'spring' to 2026.11-r2: paused (held). A wave is held; choose how to go on:")
    assert "  --choice retry: 1 site are tried again" in words
    assert "a reason is needed: give --reason" in complaint(it.run("rollout", "resume", 1, "--choice", "skip-wave"), 2)
    assert played.now().state == "paused"
    assert "running" in it.ok("rollout", "resume", 1, "--choice", "skip-failed", "--reason", "known")


def test_a_question_is_answered(terminal, play):
    played = play(1, 1)
    played.values["waves"][0]["gates"] = [{"type": "human", "question": "Do the tills work?"}]
    played.rollout = played.plan(played.rollout)
    played.run()
    played.applied(0)
    for _ in range(4):
        tick()
    it = terminal("operator")
    assert "Do the tills work?" in it.ok("rollout", "answer", 1, "yes")
    tick()
    assert played.waves().startswith("passed")


def test_what_cannot_be_done_now_or_by_this_person_is_said(terminal, play):
    play(1)
    words = complaint(terminal("operator").run("rollout", "rollback", 1, "--reason", "x"))
    assert words == "Rollout 1 'spring' to 2026.11-r2: planned. You cannot rollback now. You may: submit."
    words = complaint(terminal("viewer").run("rollout", "start", 1))
    assert words.endswith("You cannot start now. You may do nothing to it now.")
    words = complaint(terminal("viewer").run("rollout", "show", 99))
    assert words == "There is no such rollout, or it is not yours to see."


# Agreeing ---------------------------------------------------------------------------------------------------
def test_more_than_fifty_sites_are_typed(terminal, play, monkeypatch):
    played = play(52, caps={"in_flight": 1}, approvals={"needed": 1, "two_above": 1000})
    played.do(control.submit)
    it, before = terminal("manager"), contents()
    words = complaint(it.run("rollout", "approve", 1), 2)
    assert words == "Nobody can be asked here: it touches 52 sites: give --yes-for N."
    words = complaint(it.run("rollout", "approve", 1, "--yes-for", 51))
    assert words == "It touches 52 sites, and --yes-for says 51. Nothing was done."
    for typed in ("51\n", "yes\n", "\n", ""):
        sit_down(monkeypatch, typed)
        assert "Nothing was done." in it.run("rollout", "approve", 1)[2]
    assert contents() == before
    sit_down(monkeypatch, "52\n")
    status, out, err = it.run("rollout", "approve", 1)
    assert (status, "Done." in out) == (0, True), err
    tick()
    it = terminal("operator")
    assert "51 sites wait" in it.ok("rollout", "pause", 1, "--reason", "at night")  # no number is asked for
    assert "Done." in it.ok("rollout", "abort", 1, "--reason", "no", "--yes-for", 60)


class Keyboard(io.StringIO):
    """What somebody types at a terminal."""

    def isatty(self) -> bool:
        return True


def sit_down(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    """Have somebody sit at the terminal and type this."""
    monkeypatch.setattr("sys.stdin", Keyboard(typed))


def test_what_somebody_did_between_the_look_and_the_word_is_not_overlooked(terminal, play, monkeypatch):
    played = play(1).run()
    played.do(control.pause, reason="wait")
    own = saying.agreed

    def meanwhile(effect: dict[str, Any], yes_for: int | None) -> int | None:
        played.do(control.abort, reason="somebody else")
        return own(effect, yes_for)

    monkeypatch.setattr(saying, "agreed", meanwhile)
    words = complaint(terminal("operator").run("rollout", "resume", 1))
    assert words.startswith("It has moved meanwhile: it is aborting since ")
    assert played.now().state == "aborting"


# The edges --------------------------------------------------------------------------------------------------
def test_a_wrong_token_and_an_unknown_certificate_are_said(terminal, live):
    it = terminal("viewer")
    it.environ["ARCHIPELAGO_TOKEN"] = "arch_wrong"
    assert complaint(it.run("sites")) == "This token is unknown, expired or revoked."
    del it.environ["ARCHIPELAGO_CA"]
    assert complaint(it.run("sites"), 2).endswith("does not prove who it is: self-signed certificate.")
    it.environ["ARCHIPELAGO_URL"] = "https://127.0.0.1:9"
    assert "127.0.0.1:9 does not answer" in complaint(it.run("sites"))


def test_a_wrong_command_line_is_status_two(terminal):
    it = terminal("viewer")
    for arguments in (
        *(("nothing",), ("rollout",), ("rollout", "show", "x"), ("sites", "--limit", "0")),
        *(("rollout", "approve", "1", "--yes-for", "-1"), ("rollout", "pause", "1", "--for", "soon")),
        *(("rollout", "watch", "1", "--every", "0"), ("rollout", "answer", "1", "maybe")),
    ):
        assert it.run(*arguments)[0] == 2, arguments
    assert "Exit status: 0 done" in it.ok("--help")


def test_an_interrupt_is_130(monkeypatch):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("archipelago.commands.fleet.client", interrupted)
    assert main(["sites"]) == 130


def test_a_reader_that_has_read_enough_is_no_fault(terminal, make_site):
    for number in range(3):
        make_site(f"s{number}")
    process = terminal("viewer").start("sites")
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == ""
    process.stderr.close()


def test_names_from_others_are_plain_in_complaints(terminal, play, tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"standard": "a\x1b[2Jb", "select": {"everything": True}}))
    assert "\x1b" not in complaint(terminal("operator").run("rollout", "plan", file))


def test_a_site_that_runs_it_already_is_left_out_in_words(terminal, play, tmp_path):
    played = play(2)
    forget()
    report(played.sites[0], KERNEL, NEW_POS)
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(recipe_for(played, waves=[{"name": "all"}])))
    assert "Left out: 1 site: runs the standard already." in terminal("operator").ok("rollout", "plan", file)
