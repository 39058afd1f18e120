"""`rollouts`, `rollout show`, `rollout steps`: what rollouts there are, and how one is."""

import argparse
from typing import Any

from archipelago.client import path_of
from archipelago.commands.common import add_json, add_limit, client, now, show
from archipelago.rollout_text import shown
from archipelago.text import age, counts, plain, table, words


def add(commands: Any) -> None:
    """Describe `rollouts`."""
    listed = commands.add_parser("rollouts", help="the rollouts, newest first")
    listed.add_argument("--active", action="store_true", help="only those under way")
    listed.add_argument("--state", default="", help="only those in this state")
    listed.add_argument("--standard", default="", help="only those to this standard")
    add_limit(listed, 20)
    add_json(listed)
    listed.set_defaults(command=_rollouts)


def add_to(verbs: Any) -> None:
    """Describe `rollout show` and `rollout steps`."""
    one = verbs.add_parser("show", help="how it is, and what you may do to it")
    add_number(one)
    add_json(one)
    one.set_defaults(command=_show)
    steps = verbs.add_parser("steps", help="its sites, one by one")
    add_number(steps)
    steps.add_argument("--state", default="", help="only those in this state, such as failed")
    steps.add_argument("--failure", default="", help="only those that failed in this way, such as lost")
    steps.add_argument("--wave", type=int, metavar="N", help="only those of this wave, from 1")
    add_limit(steps, 100)
    add_json(steps)
    steps.set_defaults(command=_steps)


def add_number(parser: argparse.ArgumentParser) -> None:
    """The rollout that is meant."""
    parser.add_argument("rollout", type=int, metavar="NUMBER", help="of the rollout, as `rollouts` shows it")


def _rollouts(options: argparse.Namespace) -> int:
    query = {"state": options.state, "standard": options.standard, "active": "true" if options.active else ""}
    found = list(client().pages("/rollouts", query, options.limit))
    at = now()
    rows = [
        (one["id"], one["name"], one["standard"], words(one["state"]), age(one["since"], at), counts(one["counts"]))
        for one in found
    ]
    lines = table(("ROLLOUT", "NAME", "STANDARD", "STATE", "SINCE", "SITES"), rows)
    show(found, lines if found else ["No rollout is like that."], options)
    return 0


def _show(options: argparse.Namespace) -> int:
    row = client().get(path_of("rollouts", options.rollout))
    show(row, shown(row, now()), options)
    return 0


def _steps(options: argparse.Namespace) -> int:
    query = {"state": options.state, "failure": options.failure}
    query |= {} if options.wave is None else {"wave": options.wave - 1}
    found = list(client().pages(f"{path_of('rollouts', options.rollout)}/steps", query, options.limit))
    at = now()
    rows = [
        (one["site"], one["wave"] + 1, words(one["state"]), age(one["since"], at), one["failure"] or "", _why(one))
        for one in found
    ]
    lines = table(("SITE", "WAVE", "STATE", "SINCE", "FAILURE", "WHY"), rows)
    show(found, lines if found else ["No site of it is like that."], options)
    return 0


def _why(one: dict[str, Any]) -> str:
    waits = f"waits: {words(one['wait'])}" if one["wait"] else ""
    return "; ".join(part for part in ("left behind" if one["lane"] else "", waits, plain(one["reason"])) if part)
