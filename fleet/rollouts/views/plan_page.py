"""What the page of a plan holds: its forms or its text, and the recipe that they come to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from fleet.rollouts.forms import FreezeForms, WindowForms, calendar_initial, calendar_value, rows_changed
from fleet.rollouts.forms_plan import PlanForm, plan_initial
from fleet.rollouts.forms_wave import MAX_WAVES, WAVE_FIELDS, WaveForms, wave_initial
from fleet.rollouts.models import Rollout
from fleet.rollouts.plan import PlanError, plan_of
from fleet.rollouts.preview import Preview
from fleet.rollouts.recipe import USUAL_WAVES, Recipe, Selection, read_recipe
from fleet.rollouts.selectors.drafting import Drafted
from fleet.rollouts.selectors.planning import plan_choices, selected

MAX_TEXT = 4 << 20
PREFIXES = {"waves": "w", "windows": "o", "freezes": "f"}
_ROWS: dict[str, tuple[str, ...]] = {
    "waves": WAVE_FIELDS,
    "windows": ("days", "begin", "end"),
    "freezes": ("begin", "end", "reason"),
}


@dataclass
class Page:
    """`recipe` is as far as it could be read; `whole` whether it could be read whole.

    `words` say which sites; `selected` is how many they are, None where that cannot be said. `needs` are what is still
    to be chosen, and `faults` what is wrong, by field.
    """

    rollout: Rollout | None
    mode: str
    plan: PlanForm
    waves: Any = None
    windows: Any = None
    freezes: Any = None
    text: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    whole: bool = True
    only_text: bool = False
    words: str = ""
    selected: int | None = None
    drafted: Drafted | None = None
    preview: Preview | None = None
    needs: list[tuple[str, str]] = field(default_factory=list)
    faults: list[dict[str, str]] = field(default_factory=list)
    conflict: str = ""
    choices: dict[str, Any] = field(default_factory=dict)

    def wrong(self, place: str, words: str) -> None:
        """Note what is wrong with the text."""
        self.whole = False
        self.faults.append({"field": "id_recipe", "label": place, "text": words})

    @property
    def forbidden(self) -> bool:
        """Whether something keeps it from being saved."""
        return bool(self.faults or self.needs) or self.preview is None or not self.preview.may_start


# From a recipe, or from what was typed ----------------------------------------------------------------------
def shown(request: ScopedRequest, rollout: Rollout | None, recipe: Mapping[str, Any], mode: str) -> Page:
    """The page with this recipe in it, as forms where they can say all of it."""
    value = {"waves": _usual_waves(request, recipe), **recipe}
    choices = plan_choices(request.who)
    expect = rollout.plan_hash if rollout else ""
    only_text = not _fits_form(value)
    if mode == "json" or only_text:
        plan = PlanForm(initial={"expect": expect}, choices=choices)
        text = json.dumps(_tidy(value), indent=2, ensure_ascii=False)
        return Page(rollout, "json", plan, text=text, recipe=value, only_text=only_text, choices=choices)
    plan = PlanForm(initial={**plan_initial(value), "expect": expect}, choices=choices)
    windows, freezes = calendar_initial(value.get("calendar") or {})
    return Page(
        rollout,
        "form",
        plan,
        waves=WaveForms(initial=[wave_initial(wave) for wave in _waves(value)], prefix=PREFIXES["waves"]),
        windows=WindowForms(initial=windows, prefix=PREFIXES["windows"]),
        freezes=FreezeForms(initial=freezes, prefix=PREFIXES["freezes"]),
        recipe=value,
        choices=choices,
    )


def _usual_waves(request: ScopedRequest, recipe: Mapping[str, Any]) -> Any:
    """The usual ones; of few sites only those that get some."""
    try:
        select = msgspec.convert(recipe.get("select") or {}, Selection)
        count = 3 if select.is_empty else len(selected(request.who, select))
    except (msgspec.ValidationError, Invalid):
        count = 3
    canary, _, rest = USUAL_WAVES
    return msgspec.to_builtins({1: (canary,), 2: (canary, rest)}.get(count, USUAL_WAVES))


def typed(request: ScopedRequest, rollout: Rollout | None, step: str) -> Page:
    """The page as it was sent. `step` may be a change of rows (`waves-add`, `windows-remove:1`)."""
    choices = plan_choices(request.who)
    if "recipe" in request.POST:
        plan = PlanForm(initial={"expect": request.POST.get("expect", "")}, choices=choices)
        return _read_text(Page(rollout, "json", plan, text=request.POST["recipe"], choices=choices))
    data = request.POST
    rows, _, change = step.partition("-")
    if rows in PREFIXES:
        data = rows_changed(data, PREFIXES[rows], _ROWS[rows], change)
        if rows == "waves" and change == "add":
            _name_newest(data)
    page = Page(
        rollout,
        "form",
        PlanForm(data, choices=choices),
        waves=WaveForms(data, prefix=PREFIXES["waves"]),
        windows=WindowForms(data, prefix=PREFIXES["windows"]),
        freezes=FreezeForms(data, prefix=PREFIXES["freezes"]),
        choices=choices,
    )
    parts = [part.is_valid() for part in (page.plan, page.waves, page.windows, page.freezes)]  # each says what is wrong
    page.whole = all(parts)
    page.recipe = page.plan.recipe()
    if page.waves.is_valid() and page.waves.forms:
        page.recipe["waves"] = [form.value() for form in page.waves]
    elif not page.waves.forms:
        page.whole = False
        page.waves.non_form_errors().append("A plan has a wave at least.")
    if page.windows.is_valid() and page.freezes.is_valid():
        calendar = calendar_value(page.windows, page.freezes)
        page.recipe |= {"calendar": calendar} if calendar else {}
    return page


def _name_newest(data: Any) -> None:
    """A new wave has a name and takes what is left, so that it can be saved as it is."""
    last = int(data["w-TOTAL_FORMS"]) - 1
    if not data.get(f"w-{last}-name"):
        data[f"w-{last}-name"], data[f"w-{last}-takes"] = f"wave {last + 1}", "rest"


def _read_text(page: Page) -> Page:
    try:
        if len(page.text) > MAX_TEXT:
            raise PlanError("", "this is too long")
        value = json.loads(page.text)
        if not isinstance(value, dict):
            raise PlanError("", "a plan is an object")
        page.recipe = value
        read_recipe({"standard": "", "select": {}, **value} if page.text else value)
    except json.JSONDecodeError as error:
        page.wrong(f"line {error.lineno}, column {error.colno}", error.msg)
    except RecursionError:
        page.wrong("", "this is nested too deeply")
    except PlanError as error:
        # What is only not chosen yet is said more kindly.
        if error.place != "standard" or page.recipe.get("standard"):
            page.wrong(error.place, error.reason)
    page.only_text = page.whole and not _fits_form(page.recipe)
    return page


def _fits_form(recipe: Mapping[str, Any]) -> bool:
    """Whether the forms can say all of a recipe: what they make of it is the same."""
    try:
        if len(recipe.get("waves") or ()) > MAX_WAVES:
            return False
        initial = plan_initial(recipe)
        form = PlanForm(_sent(initial), choices=_any_choice(initial))
        waves = [WaveForms.form(_sent(wave_initial(wave))) for wave in _waves(recipe)]
        if not all([form.is_valid(), *(wave.is_valid() for wave in waves)]):
            return False
        back = form.recipe() | {"waves": [wave.value() for wave in waves]}
        back |= {"calendar": recipe["calendar"]} if recipe.get("calendar") else {}
        return _meaning(back) == _meaning(recipe)
    except (PlanError, msgspec.ValidationError, AttributeError, KeyError, TypeError, ValueError):
        return False


def _sent(initial: Mapping[str, Any]) -> dict[str, Any]:
    """What a browser would send of a form that begins with this."""
    return {name: _sent_value(name, value) for name, value in initial.items() if value not in (None, False)}


def _sent_value(name: str, value: Any) -> Any:
    form_field = PlanForm.base_fields.get(name) or WaveForms.form.base_fields.get(name)
    sent = form_field.prepare_value(value) if form_field is not None else value
    return sent.isoformat() if isinstance(sent, datetime) else sent


def _any_choice(initial: Mapping[str, Any]) -> dict[str, list[tuple[str, str]]]:
    names = ("standard", "providers", "regions", "rings", "follows", "ring", "approvers")
    given = {name: initial.get(name) or [] for name in names}
    return {name: [(one, one) for one in ([v] if isinstance(v, str) else v)] for name, v in given.items()}


def _waves(recipe: Mapping[str, Any]) -> tuple[Any, ...]:
    return _recipe(recipe).waves


def _recipe(value: Mapping[str, Any]) -> Recipe:
    given = {"standard": "-", "select": {}, **value}
    return read_recipe(given | {"standard": given["standard"] or "-"})


def _meaning(value: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a recipe says, however it is written. Raises PlanError."""
    read = _recipe(value)
    fixed = {"author": 1, "standard": "-", "standard_sha256": "sha256:" + "0" * 64, "waves": []}
    plan = plan_of({"name": "-", **{name: one for name, one in read.rest.items() if one is not None}, **fixed})
    said = {name for name in ("severity", "reboots") if name in read.rest}
    waves = [
        (wave.name, wave.sites, wave.labels, wave.count, wave.share, wave.canary, sorted(map(repr, wave.gates)))
        for wave in read.waves
    ]
    return read.standard, read.select, waves, plan, said


def _tidy(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """In the order in which people read it."""
    first = ("name", "standard", "select", "waves")
    beginning = {"name": "", "standard": "", "select": {}, **{name: recipe[name] for name in first if name in recipe}}
    return beginning | {name: recipe[name] for name in sorted(recipe.keys() - beginning.keys())}
