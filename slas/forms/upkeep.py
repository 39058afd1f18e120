"""The form of a maintenance window."""

import re
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from django import forms

from sites.models import Provider

_BETWEEN: Final = re.compile(r"[\s,;]+")
_ZONES: Final = sorted(available_timezones())
_LOCAL: Final = ["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"]


def slugs_of(text: str) -> list[str]:
    """The short names in a text, each once."""
    return list(dict.fromkeys(word for word in _BETWEEN.split(text) if word))


class LocalField(forms.CharField):
    """A moment on a clock, without its zone: `2026-11-01T22:00`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.DateTimeInput(attrs={"type": "datetime-local", "step": "60"}), **kwargs)

    def to_python(self, value: Any) -> Any:
        """The moment, naive. Raises ValidationError."""
        text = super().to_python(value)
        if not text:
            return None
        for form in _LOCAL:
            try:
                return datetime.strptime(text, form)  # noqa: DTZ007  (its zone stands in another field)
            except ValueError:
                continue
        raise forms.ValidationError("Write a moment like 2026-11-01T22:00.")


class WindowForm(forms.Form):
    """What is done, where, and when on which clock."""

    title = forms.CharField(max_length=120, label="What is done", help_text="Both sides read it: “UPS batteries”.")
    sites = forms.CharField(
        required=False,
        label="Short names of the sites",
        help_text="Of one provider; divided by blanks or commas.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "spellcheck": "false", "autocomplete": "off"}),
    )
    provider = forms.ModelChoiceField(
        queryset=Provider.objects.none(),
        required=False,
        to_field_name="slug",
        empty_label="—",
        label="or all active sites of",
    )
    begins = LocalField(label="Begins")
    ends = LocalField(label="Ends")
    zone = forms.ChoiceField(label="On the clock of", choices=[(name, name) for name in _ZONES], initial="UTC")
    note = forms.CharField(
        required=False,
        max_length=2000,
        label="What the other side should know",
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def __init__(self, *args: Any, providers: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["provider"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = providers

    def clean(self) -> dict[str, Any]:
        """Sites or a provider; moments with their zone."""
        given = super().clean() or {}
        given["sites"] = slugs_of(given.get("sites", ""))
        if bool(given["sites"]) == bool(given.get("provider")) and not {"sites", "provider"} & set(self.errors):
            self.add_error("sites", "Name sites, or else a provider.")
        if given.get("zone"):
            for name in ("begins", "ends"):
                if given.get(name):
                    given[name] = given[name].replace(tzinfo=ZoneInfo(given["zone"]))
        return given
