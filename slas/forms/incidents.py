"""Forms about outages: a word, the cause, and a claim."""

from datetime import UTC, datetime
from typing import Any

from django import forms

from slas.attachments import KINDS, MOST_BYTES
from slas.present.incidents import CAUSES, CHARGED_TO
from slas.services.disputes import CLAIMABLE

_ROWS = {"rows": 3}


class OneLine(forms.CharField):
    """A text of several lines kept as one: what is kept has no control characters."""

    def to_python(self, value: Any) -> Any:
        """Its words, with single spaces."""
        return " ".join(str(super().to_python(value)).split())


class MomentField(forms.DateTimeField):
    """A moment in UTC, to the second."""

    widget = forms.DateTimeInput(attrs={"type": "datetime-local", "step": "1"}, format="%Y-%m-%dT%H:%M:%S")

    def to_python(self, value: Any) -> Any:
        """With its zone."""
        found = super().to_python(value)
        return found.replace(tzinfo=UTC) if isinstance(found, datetime) else found

    def prepare_value(self, value: Any) -> Any:
        """Shown in UTC; a part of a second is none to who types."""
        return value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value


class TextForm(forms.Form):
    """A word about an outage."""

    text = OneLine(max_length=2000, required=False, widget=forms.Textarea(attrs=_ROWS))


class CauseForm(forms.Form):
    """Why an outage was."""

    cause = forms.ChoiceField(choices=[(str(key), words) for key, words in CAUSES.items()])
    charged_to = forms.ChoiceField(
        label="Charged to",
        required=False,
        choices=[("", "as the cause says"), *((str(key), words) for key, words in CHARGED_TO.items())],
    )
    reason = forms.CharField(min_length=3, max_length=300, label="Why, for both sides to read")


class ClaimForm(forms.Form):
    """What a provider claims of an outage."""

    cause = forms.ChoiceField(label="What it was", choices=[(str(key), CAUSES[key]) for key in CLAIMABLE])
    begins = MomentField(label="From (UTC)", required=False, help_text="Empty: from its begin.")
    ends = MomentField(label="To (UTC)", required=False, help_text="Empty: to its end, or to now.")
    text = OneLine(label="What speaks for it", max_length=2000, widget=forms.Textarea(attrs=_ROWS))
    file = forms.FileField(
        label="Evidence",
        required=False,
        help_text=f"{KINDS}, at most {MOST_BYTES // 1024 // 1024} MiB. You can add more files afterwards.",
    )


class FileForm(forms.Form):
    """A file for a dispute."""

    file = forms.FileField(label="File", help_text=f"{KINDS}, at most {MOST_BYTES // 1024 // 1024} MiB.")


class DecisionForm(forms.Form):
    """A manager's word on a dispute; cause and time are for adjusting it."""

    cause = forms.ChoiceField(
        required=False, label="Cause", choices=[(str(key), words) for key, words in CAUSES.items()]
    )
    begins = MomentField(label="From (UTC)", required=False)
    ends = MomentField(label="To (UTC)", required=False)
    reason = forms.CharField(min_length=3, max_length=300, label="Why, for both sides to read")
