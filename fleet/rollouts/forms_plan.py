"""The form of a plan: every choice that a person has, and the way between it and a recipe.

A member of a recipe that has one field stands in MEMBERS, by its place. What is as it would be anyway is left out of
the recipe, so that what is kept says what somebody chose.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from django import forms
from django.core.exceptions import ValidationError

from fleet.rollouts.forms import LocalField, SlugsField, SpanField, moment_of
from fleet.rollouts.forms_wave import WAVE_FIELDS
from fleet.rollouts.plan import (
    Action,
    Approvals,
    Caps,
    Expiries,
    Lane,
    Patience,
    Retry,
    Rollback,
    Times,
)
from fleet.rollouts.present_plan import ACTIONS, FAILURES
from fleet.rollouts.recipe import Selection
from fleet.rollouts.states import Failure
from sites.forms import LabelsField
from sites.present import FIGURES, LABELS

# What each member is where nobody says anything.
_USUAL: Final[dict[str, Any]] = {
    "caps": Caps(),
    "times": Times(),
    "patience": Patience(),
    "lane": Lane(),
    "rollback": Rollback(),
    "approvals": Approvals(),
    "expiries": Expiries(),
    "select": Selection(),
}
_PLAIN_USUAL: Final = {"abort": "finish", "name": "", "standard": "", "severity": "", "reboots": ""}
MEMBERS: Final[dict[str, str]] = {
    **{name: name for name in ("standard", "name", "severity", "reboots", "abort")},
    **{f"select.{name}": name for name in ("providers", "regions", "rings", "labels", "kinds", "text", "follows")},
    **{f"select.{name}": name for name in ("compliance", "ring", "everything")},
    "select.sites": "picked",
    **{f"caps.{name}": name for name in ("in_flight", "per_provider", "per_region", "starts_per_minute")},
    **{f"times.{name}": name for name in ("apply_s", "verify_s", "soak_s", "dark_after_s", "reboot_s", "document_s")},
    **{f"patience.{name}": name for name in ("defer_s", "escalate_s")},
    **{f"lane.{name}": f"lane_{name}" for name in ("in_flight", "starts_per_minute", "max_failed", "expiry_s")},
    "rollback.respects": "respects",
    "rollback.expiry_s": "rollback_expiry_s",
    "approvals.needed": "needed",
    "approvals.two_above": "two_above",
    "approvals.providers": "approvers",
    **{f"expiries.{name}": name for name in ("approval_s", "pause_s", "on_expiry")},
}
COMPLIANCE: Final = {
    "": "any",
    "drift": "in drift",
    "unknown": "out of reach",
    "conform": "conform",
    "none": "follow none",
}
SEVERITIES: Final = {"": "as the standard's", "routine": "routine", "security": "security"}
REBOOTS: Final = {"": "where the standard reboots", "true": "yes", "false": "no"}
_EMPTY: Final[tuple[Any, ...]] = (None, "", [], {}, ())


_BOX: Final = {"class": "form-check-input"}


def _count(label: str, *, example: str = "", least: int = 1, hint: str = "") -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"placeholder": example})
    return forms.IntegerField(
        required=False, min_value=least, max_value=1_000_000, label=label, widget=widget, help_text=hint
    )


def _choice(label: str, choices: Mapping[str, str]) -> forms.ChoiceField:
    return forms.ChoiceField(required=False, label=label, choices=list(choices.items()))


def _boxes(label: str = "") -> forms.MultipleChoiceField:
    return forms.MultipleChoiceField(required=False, widget=forms.CheckboxSelectMultiple(attrs=_BOX), label=label)


class PlanForm(forms.Form):
    """All of a plan but its waves and its calendar. `expect` is the hash of the plan that the person began from."""

    standard = forms.ChoiceField(required=False, label="Standard")
    name = forms.CharField(
        required=False, max_length=120, label="Name", help_text="Empty: the standard and the sites, in words."
    )
    expect = forms.CharField(required=False, max_length=71, widget=forms.HiddenInput)
    # Which sites
    everything = forms.BooleanField(required=False, label="All active sites that pass what else is said here")
    providers, regions, rings = _boxes("Providers"), _boxes("Regions"), _boxes("Ring label")
    kinds = _boxes("State")
    labels = LabelsField(
        required=False,
        label="Labels",
        help_text="One key=value a line; all must fit.",
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
    )
    text = forms.CharField(required=False, max_length=100, label="Name, short name or place")
    compliance = _choice("Beside their standard", COMPLIANCE)
    follows = forms.ChoiceField(required=False, label="Follow the standard")
    ring = forms.ChoiceField(required=False, label="In the ring")
    component_kind = forms.CharField(required=False, max_length=120, label="A component that differs: kind")
    component_name = forms.CharField(required=False, max_length=520, label="its name")
    component_version = forms.CharField(
        required=False, max_length=520, label="what sites have", help_text="Empty: any; “none”: it is not there."
    )
    picked = SlugsField(label="Only these sites", help_text="Short names, divided by blanks or commas.")
    # How fast
    in_flight = _count("At a time, in all", example="a tenth of the wave, 20 at most")
    per_provider = _count("At a time, a provider", example="no limit")
    per_region = _count("At a time, a region", example="no limit")
    starts_per_minute = _count("Starts a minute", example="no limit")
    # When
    start_at = LocalField(label="Not before", help_text="Empty: as soon as it is approved.")
    start_zone = forms.CharField(required=False, max_length=64, initial="UTC", label="on a clock in")
    # How long
    apply_s = SpanField(label="To apply")
    verify_s = SpanField(label="To prove itself after that")
    soak_s = SpanField(label="Soak of each site", help_text="Up for so long before it counts as proven.")
    dark_after_s = SpanField(label="Lost after so long a silence")
    reboot_s = SpanField(label="Longer, where it reboots, by")
    document_s = SpanField(label="Life of a document")
    defer_s = SpanField(
        label="A wave waits for a site", help_text="Busy, held, or outside its windows; then it is left behind."
    )
    escalate_s = SpanField(label="People hear of one that waits")
    severity = _choice("Severity", SEVERITIES)
    reboots = _choice("Proof needs a newer boot", REBOOTS)
    # Who agrees, what ends it
    needed = forms.IntegerField(required=False, min_value=1, max_value=10, label="People who must approve")
    two_above = _count("Two at least above so many sites", least=0)
    approvers = _boxes("Providers who must agree")
    approval_s = SpanField(label="Asked for at most")
    pause_s = SpanField(label="A pause lasts at most")
    on_expiry = _choice("When a pause or an approval expires", {"abort": "abort", "fail": "fail"})
    abort = _choice("On abort, sites at work", {"finish": "finish", "roll_back": "go back to what they ran before"})
    respects = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple(attrs=_BOX),
        label="A rollback waits for",
        choices=[("windows", "windows"), ("holds", "holds"), ("busy", "busy sites")],
    )
    rollback_expiry_s = SpanField(label="Sites that do not answer may come back for")
    # The lane
    lane_in_flight = _count("At a time")
    lane_starts_per_minute = _count("Starts a minute", example="no limit")
    lane_max_failed = _count("Halted at so many failures")
    lane_expiry_s = SpanField(label="They may come for")

    def __init__(self, *args: Any, choices: Mapping[str, Sequence[tuple[str, str]]], **kwargs: Any) -> None:
        """`choices` of the fields that choose among what there is, by name."""
        super().__init__(*args, **kwargs)
        for failure in Failure:
            self.fields |= _failure_fields(failure)
        for name, listed in {**choices, "kinds": [(kind, LABELS[kind]) for kind in FIGURES]}.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            known = [value for value, _ in listed]
            given = self.initial.get(name) or []
            # What is no more there stays in what was planned with it, and is told.
            gone = [one for one in ([given] if isinstance(given, str) else given) if one not in known]
            field.choices = [*listed, *((one, one) for one in gone)]

    def clean(self) -> dict[str, Any]:
        """A component is named whole; a start has a zone."""
        given = super().clean() or {}
        if bool(given.get("component_kind")) != bool(given.get("component_name")):
            self.add_error("component_name", "A component has a kind and a name, such as workload and pos.")
        try:
            given["starts"] = moment_of(given.get("start_at"), given.get("start_zone") or "UTC")
        except ValidationError as error:
            self.add_error("start_zone", error)
        return given

    def recipe(self) -> dict[str, Any]:
        """What was chosen, as far as it is valid, without waves and calendar."""
        given = self.cleaned_data
        found: dict[str, Any] = {"select": {}}
        for place, name in MEMBERS.items():
            value = _plain(given.get(name))
            if name in given and value not in _EMPTY and value != usual(place):
                _put(found, place, value == "true" if name == "reboots" else value)
        if given.get("component_kind") and given.get("component_name"):
            found["select"]["component"] = _component(given)
        if given.get("starts"):
            found["start_at"] = given["starts"].isoformat()
        return found | dict(self._failures())

    def _failures(self) -> Iterator[tuple[str, dict[str, Any]]]:
        given = self.cleaned_data
        actions, retries = {}, {}
        for failure in Failure:
            action, times = given.get(f"action_{failure}"), given.get(f"times_{failure}")
            if action and action != Action.HOLD:
                actions[str(failure)] = action
            if times:
                spans = {"after_s": given.get(f"after_{failure}"), "max_s": given.get(f"most_{failure}")}
                usually = {"after_s": Retry(1).after_s, "max_s": Retry(1).max_s}
                said = {name: value for name, value in spans.items() if value not in (None, usually[name])}
                retries[str(failure)] = {"times": times, **said}
        yield from (("actions", actions),) if actions else ()
        yield from (("retries", retries),) if retries else ()

    @property
    def failure_rows(self) -> list[dict[str, Any]]:
        """The fields about failures, a row a class."""
        return [
            {"label": FAILURES[failure], **{part: self[f"{part}_{failure}"] for part in _parts(failure)}}
            for failure in Failure
        ]


def _parts(failure: Failure) -> tuple[str, ...]:
    return ("action",) if failure is Failure.LOST else ("action", "times", "after", "most")


def _failure_fields(failure: Failure) -> dict[str, forms.Field]:
    """A rollout never goes on over lost sites, and a lost site is asked until it answers."""
    label, is_lost = FAILURES[failure], failure is Failure.LOST
    actions = [(str(action), words) for action, words in ACTIONS.items() if not (is_lost and action is Action.CONTINUE)]
    fields: dict[str, forms.Field] = {
        "action": forms.ChoiceField(required=False, choices=actions, label=f"{label}: what a limit does"),
        "times": forms.IntegerField(required=False, min_value=1, max_value=20, label=f"{label}: tried again, times"),
        "after": SpanField(label=f"{label}: first after", example="1 min"),
        "most": SpanField(label=f"{label}: then at most", example="1 h"),
    }
    return {f"{part}_{failure}": fields[part] for part in _parts(failure)}


def usual(place: str) -> Any:
    """What a member is where nobody says anything."""
    first, _, name = place.partition(".")
    return _plain(getattr(_USUAL[first], name)) if name else _PLAIN_USUAL[first]


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value
    return list(value) if isinstance(value, tuple) else value


def _put(value: dict[str, Any], place: str, member: Any) -> None:
    first, _, name = place.partition(".")
    if name == "providers" and first == "approvals":
        member = [int(pk) for pk in member]
    if name:
        value.setdefault(first, {})[name] = member
    else:
        value[first] = member


def _component(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {"kind": given["component_kind"], "name": given["component_name"]}
    version = given.get("component_version") or None
    return found if version is None else found | {"version": "" if version == "none" else version}


# From a recipe ----------------------------------------------------------------------------------------------
def plan_initial(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe as the form has it."""
    found: dict[str, Any] = {}
    for place, name in MEMBERS.items():
        first, _, inner = place.partition(".")
        value = (recipe.get(first) or {}).get(inner) if inner else recipe.get(first)
        found[name] = usual(place) if value is None else value
    found["approvers"] = [str(pk) for pk in found["approvers"] or ()]
    found["reboots"] = {True: "true", False: "false"}.get(found["reboots"], "")
    component = (recipe.get("select") or {}).get("component") or {}
    found |= {f"component_{name}": component.get(name) or "" for name in ("kind", "name")}
    version = component.get("version")
    found["component_version"] = "none" if version == "" else version or ""
    if recipe.get("start_at"):
        at = msgspec.convert(recipe["start_at"], datetime).astimezone(UTC)
        found |= {"start_at": at.replace(tzinfo=None), "start_zone": "UTC"}
    for failure, action in (recipe.get("actions") or {}).items():
        found[f"action_{failure}"] = action
    for failure, retry in (recipe.get("retries") or {}).items():
        found |= {f"times_{failure}": retry.get("times")}
        found |= {f"after_{failure}": retry.get("after_s"), f"most_{failure}": retry.get("max_s")}
    return found


# Where what is wrong stands ---------------------------------------------------------------------------------
def field_of(place: str) -> str:
    """The field that a place in a recipe is about (`caps.in_flight`), or nothing."""
    for known, name in MEMBERS.items():
        if place == known or place.startswith((f"{known}[", f"{known}.")):
            return name
    first, _, rest = place.partition(".")
    if first in ("actions", "retries"):
        return f"{'action' if first == 'actions' else 'times'}_{rest.partition('.')[0]}"
    return {"sites": "picked", "select": "everything", "expiries": "pause_s", "start_at": "start_at"}.get(first, "")


def wave_field_of(inner: str) -> str:
    """The field of a wave that a place inside of it is about (`share`), or nothing."""
    first = inner.partition(".")[0].partition("[")[0]
    if first in ("count", "share", "labels", "sites"):
        return "amount"
    return first if first in WAVE_FIELDS else ""
