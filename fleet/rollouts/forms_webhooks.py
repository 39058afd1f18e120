"""The form of a webhook. What it holds is handed to services, which check it again and record it."""

from typing import Any, Final, NamedTuple

from django import forms

from fleet.rollouts.hooks import ALL_KINDS, MAX_URL_CHARS
from fleet.rollouts.models import WebhookEndpoint

GROUPS: Final = (
    ("Rollouts", "rollout."),
    ("Waves", "rollout.wave."),
    ("Gates", "rollout.gate."),
    ("The lane", "rollout.lane."),
    ("Sites", "rollout.site."),
    ("Outages", "sla.outage."),
    ("Disputes", "sla.dispute."),
    ("Error budgets", "sla.budget."),
    ("Reports", "sla.report."),
)


class WebhookForm(forms.Form):
    """A webhook; no kind chosen: all."""

    name = forms.CharField(max_length=64, help_text="What hears of it, such as the chat of the operations room.")
    url = forms.CharField(
        max_length=MAX_URL_CHARS,
        label="Address",
        help_text="It begins with https:// and leads to a public address.",
        widget=forms.TextInput(
            attrs={"class": "mono", "inputmode": "url", "spellcheck": "false", "autocomplete": "off"}
        ),
    )
    kinds = forms.MultipleChoiceField(required=False, choices=[(kind, kind) for kind in ALL_KINDS])


def webhook_initial(row: WebhookEndpoint) -> dict[str, Any]:
    """A webhook as the form has it."""
    return {name: getattr(row, name) for name in ("name", "url", "kinds")}


class Choice(NamedTuple):
    """A box to tick."""

    kind: str
    label: str
    is_chosen: bool


def choices_of(form: WebhookForm) -> list[tuple[str, list[Choice]]]:
    """Kinds of messages in groups, with those ticked that the form has."""
    chosen = form["kinds"].value() or []
    groups = []
    for title, prefix in GROUPS:
        own = [kind for kind in ALL_KINDS if kind.startswith(prefix) and "." not in kind.removeprefix(prefix)]
        groups.append((title, [Choice(kind, _spoken(kind), kind in chosen) for kind in own]))
    return groups


def _spoken(kind: str) -> str:
    return kind.rpartition(".")[2].replace("_", " ")
