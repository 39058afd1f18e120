"""What is said to a rollout: approve, start, pause, abort, ... First what it will do is told, in words and numbers.

The plan and the moment that were looked at go along, so what somebody else did meanwhile is not overlooked.
"""

import argparse
import sys
from typing import Any, Final

from archipelago.agreeing import add_agreement, agreed, reason_for
from archipelago.client import Json, path_of
from archipelago.commands.common import add_json, client, show
from archipelago.commands.rollouts import add_number
from archipelago.errors import StoppedError
from archipelago.rollout_text import command_of, heading
from archipelago.text import plain, seconds_of, words

CHOICES: Final = ("retry", "skip-failed", "skip-wave", "recheck")
# By command: the verb of the API, and what it is for.
VERBS: Final = {
    "submit": ("submit", "ask for approval of a plan"),
    "approve": ("approve", "agree to this very plan"),
    "reject": ("reject", "say no to a plan, with a reason"),
    "start": ("start", "start what is approved, before its time"),
    "pause": ("pause", "begin no further site; --freeze: sites at work hold too"),
    "resume": ("resume", "go on; where a wave is held, --choice says how"),
    "answer": ("answer", "answer the question of the wave that is held"),
    "abort": ("abort", "give it up; what is done stays"),
    "rollback-wave": ("roll_back_wave", "what the present wave touched goes back; it is held then"),
    "rollback": ("roll_back", "every site that was touched goes back to what it ran before"),
    "reopen-lane": ("reopen_lane", "let sites catch up again that were left behind"),
}
# Whoever must stop a rollout at night stops it as it is, whatever it was when they looked.
_WHATEVER_IT_IS: Final = ("pause", "freeze")


def add_to(verbs: Any) -> None:
    """Describe the commands."""
    for name, (verb, purpose) in VERBS.items():
        parser = verbs.add_parser(name, help=purpose)
        add_number(parser)
        parser.set_defaults(command=_say, verb=verb, choice=None, freeze=False, seconds=None, word=None, reason=None)
        if name == "answer":
            parser.add_argument("word", choices=("yes", "no"))
        if name not in ("submit", "start", "answer"):
            parser.add_argument("--reason", metavar="TEXT", help="why; others will read it")
        if name == "resume":
            parser.add_argument("--choice", choices=CHOICES)
        if name == "pause":
            parser.add_argument("--freeze", action="store_true", help="sites at work hold at their next safe point")
            parser.add_argument("--for", dest="seconds", type=_span, metavar="SPAN", help="such as 2h; then it expires")
        add_agreement(parser)
        add_json(parser)


def _say(options: argparse.Namespace) -> int:
    api = client()
    path = path_of("rollouts", options.rollout)
    row = api.get(path)
    verb = "freeze" if options.freeze else options.verb
    effect = _effect(row, verb, options.choice)
    told = [heading(row), f"{plain(effect['label'])}:", *(f"  {plain(sentence)}" for sentence in effect["words"])]
    print("\n".join(told), file=sys.stderr if options.json else sys.stdout, flush=True)
    body: Json = {"expect": row["plan_hash"]} | ({} if verb in _WHATEVER_IT_IS else {"since": row["since"]})
    body |= {"reason": reason_for(effect, options.reason), "sites": agreed(effect, options.yes_for)}
    body |= {"choice": effect["choice"], "seconds": options.seconds} | _answer(row, options.word)
    sent = {name: value for name, value in body.items() if value is not None}
    after = api.send("POST", f"{path}/{verb.replace('_', '-')}", sent)
    needed = after["asked"]["missing"]
    still = [f"Still needed: {plain(needed)}."] if needed and verb in ("submit", "approve") else []
    show(after, ["Done. " + heading(after), *still], options)
    return 0


def _effect(row: Json, verb: str, choice: str | None) -> Json:
    """What it would do. Raises StoppedError where it cannot be said now, or a choice is missing."""
    wanted = choice.replace("-", "_") if choice else None
    found = [one for one in row["effects"] if one["verb"] == verb]
    effect: Json | None = next((one for one in found if one["choice"] == wanted), None)
    if effect is not None:
        return effect
    if found and wanted is None:
        ways = [f"  --choice {one['choice'].replace('_', '-')}: {plain(one['words'][0])}" for one in found]
        raise StoppedError("\n".join([f"{heading(row)}. A wave is held; choose how to go on:", *ways]))
    ways = sorted({command_of(one["verb"]) for one in row["effects"]})
    may = f"You may: {', '.join(ways)}." if ways else "You may do nothing to it now."
    what = words(command_of(verb)) + (f" --choice {choice}" if choice else "")
    raise StoppedError(f"{heading(row)}. You cannot {what} now. {may}")


def _answer(row: Json, word: str | None) -> Json:
    if word is None:
        return {}
    held = next((wave["index"] for wave in row["waves"] if wave["state"] == "held"), 0)
    return {"wave": held, "yes": word == "yes"}


def _span(text: str) -> int:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
