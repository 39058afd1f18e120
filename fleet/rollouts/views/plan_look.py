"""What a plan's page comes to: sites, waves, preview; and what is wrong with it, where it stands."""

import re
from datetime import datetime
from typing import Any

import msgspec
from django.forms import BaseForm

from fleet.kit.errors import Invalid
from fleet.kit.http import ScopedRequest
from fleet.rollouts.forms_plan import field_of, wave_field_of
from fleet.rollouts.present_plan import selection_text
from fleet.rollouts.recipe import Selection
from fleet.rollouts.selectors.drafting import draft, preview_of
from fleet.rollouts.selectors.planning import selected
from fleet.rollouts.views.plan_page import Page

_WAVE = re.compile(r"waves\[(\d+)\]\.?(.*)")


def look(request: ScopedRequest, page: Page, now: datetime) -> Page:
    """Fill in what the recipe comes to: sites, waves, preview; and what is wrong, where it stands."""
    providers = dict(page.choices["providers"])
    try:
        select = msgspec.convert(page.recipe.get("select") or {}, Selection)
    except msgspec.ValidationError:
        select = Selection()
    page.words = selection_text(select, providers)
    if not page.recipe.get("standard"):
        page.needs.append(("id_standard", "Choose a standard."))
    if select.is_empty and page.whole:
        page.needs.append(("id_select", "Say which sites: nothing selects all of them by chance."))
    if page.whole and not page.needs:
        _draft(request, page, now, f"{page.recipe['standard']}: {page.words}"[:120])
    elif not select.is_empty:
        _count(request, page, select)
    page.faults = [*page.faults, *_form_faults(page)]
    return page


def _count(request: ScopedRequest, page: Page, select: Selection) -> None:
    """How many sites are chosen, while there is no more to say."""
    try:
        page.selected = len(selected(request.who, select))
    except Invalid as error:
        for place, words in error.details.items():
            put_fault(page, place, words if isinstance(words, str) else error.message)


def _draft(request: ScopedRequest, page: Page, now: datetime, name: str) -> None:
    page.recipe = page.recipe if page.recipe.get("name") else {**page.recipe, "name": name}
    but = page.rollout.pk if page.rollout else 0
    try:
        page.drafted = draft(request.who, page.recipe, now, but_rollout=but)
    except Invalid as error:
        for place, words in (error.details or {"": error.message}).items():
            put_fault(page, place, words if isinstance(words, str) else error.message)
        return
    page.selected = len(page.drafted.sites)
    if page.drafted.fault:
        put_fault(page, page.drafted.place, page.drafted.fault)
    page.preview = preview_of(page.drafted, now)
    for note in page.preview.notes if page.preview else ():
        if note.level == "fault":
            put_fault(page, note.place, note.sentence)


def put_fault(page: Page, place: str, words: str) -> None:
    """Put a sentence where it belongs: at its field, else above all."""
    if page.mode == "json":
        page.wrong(place, words)
        return
    page.whole = False
    found = _WAVE.fullmatch(place)
    forms: list[Any] = list(page.waves.forms) if page.waves else []
    if found and int(found[1]) < len(forms):
        _add(forms[int(found[1])], wave_field_of(found[2]), words)
    else:
        _add(page.plan, field_of(place), words)


def _add(form: BaseForm, name: str, words: str) -> None:
    text = words[:1].upper() + words[1:]
    form.errors.setdefault(name if name in form.fields else "__all__", form.error_class()).append(
        text if text.endswith((".", "!", "?")) else f"{text}."
    )


def _form_faults(page: Page) -> list[dict[str, str]]:
    """What is wrong, by field, in the order of the page."""
    found = _errors_of(page.plan, "")
    for number, form in enumerate(page.waves.forms if page.waves else ()):
        found += _errors_of(form, f"Wave {number + 1}")
    for rows, label in ((page.windows, "Window"), (page.freezes, "Freeze")):
        for number, form in enumerate(rows.forms if rows else ()):
            found += _errors_of(form, f"{label} {number + 1}")
    for rows, anchor in ((page.waves, "plan-waves"), (page.windows, "plan-windows")):
        errors = rows.non_form_errors() if rows is not None and rows.is_bound else ()
        found += [{"field": anchor, "label": "", "text": str(error)} for error in errors]
    return found


def _errors_of(form: BaseForm, where: str) -> list[dict[str, str]]:
    found = []
    for name, errors in form.errors.items():
        bound = form[name] if name in form.fields else None
        label = ": ".join(part for part in (where, str(bound.label) if bound else "") if part)
        anchor = bound.auto_id if bound else f"{form.prefix}-head" if form.prefix else "plan-form"
        found += [{"field": anchor, "label": label, "text": str(error)} for error in errors]
    return found
