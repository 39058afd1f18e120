"""The approved plan of a running rollout in lines of words."""

from collections.abc import Mapping
from typing import Any

from fleet.rollouts.counting import sites
from fleet.rollouts.engine.claims import DEFAULT_IN_FLIGHT, DEFAULT_SHARE
from fleet.rollouts.plan import Action, Plan
from fleet.rollouts.present_words import FAILURES, span

_ACTIONS = {
    Action.CONTINUE: "go on",
    Action.HOLD: "hold the wave for a person",
    Action.ROLL_BACK_WAVE: "roll back the wave",
    Action.ROLL_BACK_ALL: "roll back all that was touched",
}


def plan_lines(plan: Plan, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """What people decided: `what` and `lines` each. `names` are those of providers by id."""
    return [
        {"what": "Waves", "lines": [_wave(index, wave) for index, wave in enumerate(plan.waves, 1)]},
        {"what": "At once", "lines": _caps(plan)},
        {"what": "Times", "lines": _times(plan)},
        {"what": "On failure", "lines": _failures(plan)},
        {"what": "Approval", "lines": _approvals(plan, names)},
        {"what": "Ends", "lines": _ends(plan)},
    ]


def _wave(number: int, wave: Any) -> str:
    kind = ", a canary" if wave.canary else ""
    return f"{number}. {wave.name}: {sites(len(wave.sites))}{kind}" + (f" ({wave.why})" if wave.why else "")


def _caps(plan: Plan) -> list[str]:
    caps = plan.caps
    lines = [
        f"At most {sites(caps.in_flight)} in flight."
        if caps.in_flight
        else f"At most {DEFAULT_SHARE * 100:g} % of a wave in flight, and never more than {DEFAULT_IN_FLIGHT} sites."
    ]
    lines += [f"At most {sites(caps.per_provider)} of one provider."] if caps.per_provider else []
    lines += [f"At most {sites(caps.per_region)} of one region."] if caps.per_region else []
    lines += [f"At most {sites(caps.starts_per_minute)} begun in a minute."] if caps.starts_per_minute else []
    if plan.calendar.windows:
        lines.append(f"Only within {len(plan.calendar.windows)} weekly windows on the sites' clocks.")
    if plan.calendar.freezes:
        lines.append(f"Not in {len(plan.calendar.freezes)} change freezes.")
    return lines


def _times(plan: Plan) -> list[str]:
    times = plan.times
    return [
        f"A change may take {span(times.apply_s)}, its proof {span(times.verify_s)} more.",
        f"A site soaks for {span(times.soak_s)} before it counts as proven.",
        f"A site that falls silent is lost after {span(times.dark_after_s + (times.reboot_s if plan.reboots else 0))}.",
        f"A site that cannot be changed is waited for {span(plan.patience.defer_s)}, then it is left behind.",
    ]


def _failures(plan: Plan) -> list[str]:
    lines = [
        f"{FAILURES[name]}: {_ACTIONS[plan.action(name)]}."
        for name in plan.actions
        if plan.action(name) is not Action.HOLD
    ]
    lines.append(f"{'Anything else' if lines else 'Whatever it is'}: hold the wave for a person.")
    lines += [f"{FAILURES[name]}: tried again up to {one.times} times." for name, one in plan.retries.items()]
    return lines


def _approvals(plan: Plan, names: Mapping[int, str]) -> list[str]:
    needed = plan.approvals.needed
    lines = [f"{needed} {'person' if needed == 1 else 'people'}, two above {sites(plan.approvals.two_above)}."]
    return lines + [f"Somebody who speaks for {names.get(pk, pk)}." for pk in plan.approvals.providers]


def _ends(plan: Plan) -> list[str]:
    ending = "aborted" if plan.expiries.on_expiry == "abort" else "failed"
    at_work = "finish" if plan.abort == "finish" else "go back"
    waits = " and ".join(plan.rollback.respects) or "nothing"
    return [
        f"A pause ends after {span(plan.expiries.pause_s)}: then it is {ending}.",
        f"When it is aborted, sites at work {at_work}.",
        f"A rollback leads each site to what it had proven before, newest wave first, and waits for {waits}.",
        f"Sites that were left behind may catch up for {span(plan.lane.expiry_s)}, {plan.lane.in_flight} at a time.",
    ]
