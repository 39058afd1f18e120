"""The form of a wave: how it takes its sites, and what it must show before the next one opens."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec
from django import forms

from fleet.rollouts.forms import MAX_ROWS, PercentField, SpanField, slugs_of
from fleet.rollouts.gates import (
    Deadline,
    FailureLimit,
    Gate,
    Human,
    MetricLimit,
    MinSample,
    SlaBudget,
    Soak,
    SuccessShare,
)
from fleet.rollouts.present_plan import METRICS, gates_text, number_text, share_text
from fleet.rollouts.recipe import WaveRecipe
from fleet.rollouts.states import Failure

MAX_WAVES: Final = 30
TAKES: Final = (
    ("count", "a number of sites"),
    ("share", "a share, in %"),
    ("labels", "sites with labels"),
    ("sites", "sites by name"),
    ("rest", "all that are left"),
)
_AMOUNTS: Final = {
    "count": "How many?",
    "share": "How many per cent?",
    "labels": "Which labels? Such as tier=1.",
    "sites": "Which sites? Short names, divided by blanks.",
}


def _number(label: str, example: str = "", **options: Any) -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"placeholder": example})
    return forms.IntegerField(required=False, min_value=1, max_value=1_000_000, label=label, widget=widget, **options)


def _bound(label: str) -> forms.FloatField:
    widget = forms.NumberInput(attrs={"step": "any", "placeholder": "any"})
    return forms.FloatField(required=False, label=label, widget=widget)


class WaveForm(forms.Form):
    """One wave. What is left empty is as no wave goes without it (see gates.gates_of)."""

    name = forms.CharField(max_length=60)
    canary = forms.BooleanField(required=False, label="Canary", help_text="Any failure, or one lost site, holds it.")
    takes = forms.ChoiceField(choices=TAKES, initial="rest")
    amount = forms.CharField(required=False, max_length=20_000, label="How many, or which")
    why = forms.CharField(required=False, max_length=500, widget=forms.HiddenInput)
    soak = SpanField(label="Soaks for", example="as each site", help_text="After its last site was changed.")
    deadline = SpanField(label="Over within", example="no limit", help_text="Counted from its opening.")
    min_sample = _number("Sites tried, at least", "1")
    success = PercentField(label="Of them proven, %", example="90; canary 100")
    fail_count = _number("Failed sites that hold it", "canary 1")
    fail_share = PercentField(label="Or failed, %", example="10")
    lost_count = _number("Lost sites that hold it", "3; canary 1")
    lost_share = PercentField(label="Or lost, %", example="2")
    limits = forms.CharField(
        required=False,
        max_length=1000,
        label="Limits of other failures",
        help_text="One a line, such as no_space: 2 or pull_failed, timed_out: 5 %.",
        widget=forms.Textarea(attrs={"rows": 2, "class": "mono", "spellcheck": "false"}),
    )
    human = forms.BooleanField(required=False, label="A person must say yes before the next wave")
    question = forms.CharField(required=False, max_length=500, label="What the person is asked")
    budget = PercentField(label="SLA budget left, %", example="not asked")
    cpu_ratio = _bound("CPU at most, %")
    mem_ratio = _bound("Memory at most, %")
    disk_ratio = _bound("Disk at most, %")
    temp_celsius = _bound("Temperature at most, °C")
    rtt_ms = _bound("Round trip at most, ms")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """A wave of which nothing was filled in is none that may be left out."""
        super().__init__(*args, **{**kwargs, "empty_permitted": False})

    def clean(self) -> dict[str, Any]:
        """How many, or which, must fit how sites are taken."""
        given = super().clean() or {}
        takes, amount = given.get("takes"), (given.get("amount") or "").strip()
        if takes and takes != "rest" and "amount" not in self.errors:
            try:
                given["taken"] = _taken(takes, amount)
            except ValueError:
                self.add_error("amount", _AMOUNTS[takes])
        try:
            given["limits"] = list(_limits(given.get("limits") or ""))
        except ValueError as error:
            self.add_error("limits", str(error))
        return given

    def value(self) -> dict[str, Any]:
        """The wave as a recipe has it."""
        given = self.cleaned_data
        found: dict[str, Any] = {"name": given["name"]}
        if given["takes"] != "rest":
            found[given["takes"]] = given["taken"]
        gates = [msgspec.to_builtins(gate) for gate in self._gates()]
        found |= {name: value for name, value in (("gates", gates), ("canary", given["canary"])) if value}
        return found | ({"why": given["why"]} if given["why"] else {})

    def _gates(self) -> list[Gate]:
        given = self.cleaned_data
        found: list[Gate | None] = [
            MinSample(given["min_sample"]) if given["min_sample"] else None,
            SuccessShare(given["success"]) if given["success"] else None,
            _limit((), given["fail_count"], given["fail_share"]),
            _limit((Failure.LOST,), given["lost_count"], given["lost_share"]),
            *given["limits"],
            Soak(given["soak"]) if given["soak"] is not None else None,
            Deadline(given["deadline"]) if given["deadline"] is not None else None,
            *(
                MetricLimit(name, at_most=round(given[name] / size, 9)) if given[name] is not None else None
                for name, (_, _, size) in METRICS.items()
            ),
            SlaBudget(given["budget"]) if given["budget"] else None,
            Human(given["question"]) if given["human"] or given["question"] else None,
        ]
        return [gate for gate in found if gate is not None]

    @property
    def line(self) -> str:
        """What it must show, in one line, as far as it can be read."""
        try:
            if self.is_bound:
                return gates_text(self._gates(), canary=self.cleaned_data["canary"]) if self.is_valid() else ""
            return gates_text(self.initial.get("read", ()), canary=bool(self.initial.get("canary")))
        except (KeyError, AttributeError):
            return ""


WaveForms = forms.formset_factory(WaveForm, extra=0, max_num=MAX_WAVES, absolute_max=MAX_ROWS)
WAVE_FIELDS: Final = tuple(WaveForm.base_fields)


def _limit(classes: tuple[Failure, ...], count: int | None, share: float | None) -> FailureLimit | None:
    return FailureLimit(classes, count, share or None) if count or share else None


def _taken(takes: str, amount: str) -> Any:
    """What a wave takes. Raises ValueError."""
    if takes == "count":
        count = int(amount)
        if count < 1:
            raise ValueError
        return count
    if takes == "share":
        share = round(float(amount.removesuffix("%")) / 100, 9)
        if not 0 < share <= 1:
            raise ValueError
        return share
    if takes == "labels":
        pairs = [part.partition("=") for part in amount.replace("\n", ",").split(",") if part.strip()]
        if not pairs or not all(sign and key.strip() for key, sign, _ in pairs):
            raise ValueError
        return {key.strip(): value.strip() for key, _, value in pairs}
    slugs = slugs_of(amount)
    if not slugs:
        raise ValueError
    return slugs


def _limits(text: str) -> Iterable[FailureLimit]:
    """Lines as limits of classes: `no_space: 2 or 5 %`. Raises ValueError with a sentence."""
    for line in filter(None, (line.strip() for line in text.splitlines())):
        names, sign, bounds = line.partition(":")
        wrong = f"“{line[:60]}” is no limit; one is no_space: 2 or 5 %"
        try:
            classes = tuple(Failure(name.strip().replace(" ", "_")) for name in names.split(","))
        except ValueError:
            known = ", ".join(Failure)
            raise ValueError(f"“{names[:60]}” is no class of failures; they are {known}") from None
        count = share = None
        for bound in bounds.split(" or "):
            number = bound.strip()
            try:
                if number.endswith("%"):
                    share = round(float(number[:-1]) / 100, 9)
                else:
                    count = int(number)
            except ValueError:
                raise ValueError(wrong) from None
        if not sign or not (count is None or count > 0) or not (share is None or 0 < share <= 1):
            raise ValueError(wrong)
        yield FailureLimit(classes, count, share)


# From a recipe ----------------------------------------------------------------------------------------------
def wave_initial(wave: WaveRecipe) -> dict[str, Any]:
    """A wave as the form has it; what it has no field for is left out (forms_plan.is_whole notices)."""
    found: dict[str, Any] = {"name": wave.name, "canary": wave.canary, "why": wave.why, "read": wave.gates}
    found |= _taken_initial(wave)
    limits: list[str] = []
    seen: set[str] = set()
    for gate in wave.gates:
        match gate:
            case FailureLimit(classes, count, share):
                kind = {(): "fail", (Failure.LOST,): "lost"}.get(classes, "")
                if kind and kind not in seen:
                    seen.add(kind)
                    found |= {f"{kind}_count": count, f"{kind}_share": share}
                elif classes:
                    limits.append(_limit_text(classes, count, share))
            case MetricLimit(name, _, at_most) if name in METRICS and at_most is not None:
                found[name] = number_text(at_most * METRICS[name][2])
            case _:
                found |= _gate_initial(gate)
    return found | {"limits": "\n".join(limits)}


def _gate_initial(gate: Gate) -> Mapping[str, Any]:
    match gate:
        case MinSample(sites):
            return {"min_sample": sites}
        case SuccessShare(share):
            return {"success": share}
        case Soak(seconds):
            return {"soak": seconds}
        case Deadline(seconds):
            return {"deadline": seconds}
        case SlaBudget(share_left):
            return {"budget": share_left}
        case Human(question):
            return {"human": True, "question": question}
    return {}


def _taken_initial(wave: WaveRecipe) -> dict[str, Any]:
    if wave.sites is not None:
        return {"takes": "sites", "amount": " ".join(wave.sites)}
    if wave.labels is not None:
        return {"takes": "labels", "amount": ", ".join(f"{key}={value}" for key, value in wave.labels.items())}
    if wave.count is not None:
        return {"takes": "count", "amount": str(wave.count)}
    if wave.share is not None:
        return {"takes": "share", "amount": number_text(wave.share * 100)}
    return {"takes": "rest", "amount": ""}


def _limit_text(classes: Iterable[Failure], count: int | None, share: float | None) -> str:
    bounds = [str(count) if count else "", share_text(share) if share else ""]
    return f"{', '.join(classes)}: {' or '.join(bound for bound in bounds if bound)}"
