"""`simctl`: order the sites of a running simulator about."""

import argparse
import json
from pathlib import Path
from typing import Any

from agent.churn import MAX_PER_MINUTE
from agent.control import request
from agent.protocol import KINDS, STATES
from agent.virtual_site import APPLY_FAULTS, MODES


def add(commands: Any) -> None:
    """Describe the command."""
    simctl = commands.add_parser(
        "simctl", help="order simulated sites about", description="Order the sites of a running simulator about."
    )
    simctl.add_argument("--control", required=True, type=Path, metavar="SOCKET", help="its control socket")
    simctl.add_argument("--json", action="store_true", help="print the answer as JSON")
    simctl.set_defaults(command=_order)
    orders = simctl.add_subparsers(dest="order", metavar="ORDER", required=True)
    fail = orders.add_parser("fail", help="let sites fail")
    fail.add_argument("mode", choices=MODES, metavar="MODE", help=", ".join(MODES))
    fail.add_argument("--for", dest="for_s", type=float, metavar="SECONDS", help="heal them after that time")
    heal = orders.add_parser("heal", help="let sites be well again")
    judge = orders.add_parser("judge", help="let sites give a verdict of themselves, whatever else is wrong with them")
    judge.add_argument("state", choices=STATES, metavar="STATE", help=", ".join(STATES))
    upgrade = orders.add_parser("upgrade", help="give a component another version")
    upgrade.add_argument("kind", choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    upgrade.add_argument("name", help="such as linux, or pos")
    upgrade.add_argument("version")
    fail_apply = orders.add_parser("fail-apply", help="let the changes of desired state fail, until healed")
    fail_apply.add_argument("fault", choices=APPLY_FAULTS, metavar="FAULT", help=", ".join(APPLY_FAULTS))
    for order in (fail, heal, judge, upgrade, fail_apply):
        order.add_argument("sites", nargs="+", metavar="SITE", help="uuid or address of a site, or: all")
    churn = orders.add_parser("churn", help="let sites come and go on their own")
    churn.add_argument(
        "per_minute",
        type=float,
        metavar="SHARE",
        help=f"share of the sites that changes its verdict each minute, 0 to {MAX_PER_MINUTE:g}; 0.01 is 1 %%",
    )
    orders.add_parser("status", help="print counts")


def _order(options: argparse.Namespace) -> int:
    order: dict[str, Any] = {"cmd": options.order.replace("-", "_")}
    if "sites" in options:
        order["sites"] = "all" if options.sites == ["all"] else options.sites
    for name in ("mode", "for_s", "state", "kind", "name", "version", "per_minute", "fault"):
        if getattr(options, name, None) is not None:
            order[name] = getattr(options, name)
    answer = request(options.control, order)
    del answer["ok"]
    if options.json:
        print(json.dumps(answer))
        return 0
    for name, value in answer.items():
        shown = ", ".join(f"{key} {count}" for key, count in value.items()) if isinstance(value, dict) else value
        print(f"{name.replace('_', ' ')}: {shown if shown != '' else 'none'}")
    return 0
