"""`rollout plan`: what a recipe would do, and on request a rollout of it."""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archipelago.client import Client, Json, path_of
from archipelago.commands.common import add_json, client, show
from archipelago.errors import StoppedError, UsageError
from archipelago.rollout_text import heading
from archipelago.text import clock, plain, sites, size, table


def add_to(verbs: Any) -> None:
    """Describe the command."""
    plan = verbs.add_parser("plan", help="what a recipe would do; with --create, plan it")
    plan.add_argument("recipe", metavar="FILE", help="a recipe in JSON, or - for the standard input")
    plan.add_argument("--create", action="store_true", help="make a rollout of it; nothing is sent to any site")
    plan.add_argument("--change", type=int, metavar="NUMBER", help="give this rollout that was not started the plan")
    plan.add_argument("--submit", action="store_true", help="and ask for approval")
    add_json(plan)
    plan.set_defaults(command=_plan)


def _plan(options: argparse.Namespace) -> int:
    recipe = _recipe(options.recipe)
    api = client()
    seen = api.send("POST", "/rollouts/preview", recipe)
    is_kept = options.create or options.change is not None or options.submit
    if options.create and options.change is not None:
        raise UsageError("Give one of --create and --change.")
    if options.submit and not options.create and options.change is None:
        raise UsageError("--submit goes with --create or --change.")
    if not (options.json and is_kept):
        show(seen, _lines(seen), options)
    if not is_kept:
        return 0 if seen["may_start"] else 1
    if not seen["may_start"]:
        raise StoppedError("This plan may not start; nothing was made of it.")
    row = _kept(api, recipe, options.change)
    if options.submit:
        body = {"expect": row["plan_hash"], "since": row["since"]}
        row = api.send("POST", f"{path_of('rollouts', row['id'])}/submit", body)
    asked = [f"Still needed: {plain(row['asked']['missing'])}."] if options.submit else []
    show(row, ["", heading(row), *asked], options)
    return 0


def _kept(api: Client, recipe: Json, changed: int | None) -> Json:
    if changed is None:
        return api.send("POST", "/rollouts", recipe)
    before = api.get(path_of("rollouts", changed))
    return api.send("PUT", f"{path_of('rollouts', changed)}/plan", {"expect": before["plan_hash"], "recipe": recipe})


def _recipe(name: str) -> Json:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text()
        value = json.loads(text)
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror}.") from None
    except json.JSONDecodeError as error:
        raise UsageError(f"{name} is no JSON: line {error.lineno}, column {error.colno}: {error.msg}.") from None
    except (UnicodeDecodeError, RecursionError):
        raise UsageError(f"{name} is no JSON.") from None
    if not isinstance(value, dict):
        raise UsageError(f"{name} holds no recipe: that is a JSON object.")
    return value


def _lines(seen: Json) -> Iterator[str]:
    yield f"{sites(seen['sites'])} of {seen['selected']:,} selected would be brought to {plain(seen['standard'])}."
    people = "1 person" if seen["people"] == 1 else f"{seen['people']} people"
    yield f"{people} must approve it. It would fetch {size(seen['bytes_total'])} in all, where that is known."
    yield f"It would end between {clock(seen['ends']['earliest'])} and {clock(seen['ends']['latest'])}."
    yield ""
    rows = [
        (number, wave["name"], wave["sites"], wave["offline_now"], clock(wave["ends"]["latest"]), wave["why"])
        for number, wave in enumerate(seen["waves"], start=1)
    ]
    yield from table(("WAVE", "NAME", "SITES", "OFFLINE", "ENDS BY", "WHY"), rows)
    for one in seen["left_out"]:
        yield f"Left out: {sites(one['sites'])}: {plain(one['reason'])}."
    for note in seen["notes"]:
        place = f" at {plain(note['place'])}" if note["place"] else ""
        yield f"{note['level'].upper()}{place}: {plain(note['sentence'])}"
