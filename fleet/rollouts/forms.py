"""Forms of holds and calendars, and fields that plans have too. Services check what they hold."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
from django import forms
from django.core.exceptions import ValidationError

from fleet.rollouts.present_plan import DAYS, number_text, span_of, span_text
from fleet.rollouts.windows import Calendar
from sites.models import Provider

MAX_ROWS = 40
_ZONES = available_timezones()
_BETWEEN = re.compile(r"[\s,;]+")


# Fields -----------------------------------------------------------------------------------------------------
class SpanField(forms.CharField):
    """A span of time as people write it (`10 min`), in seconds."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"autocomplete": "off", "placeholder": kwargs.pop("example", ""), "maxlength": "40"}
        super().__init__(**{"required": False, "widget": forms.TextInput(attrs=attrs), **kwargs})

    def prepare_value(self, value: Any) -> Any:
        """Seconds as text."""
        return span_text(value) if isinstance(value, int) else value

    def to_python(self, value: Any) -> Any:
        """Text as seconds; None for nothing. Raises ValidationError."""
        if isinstance(value, int):
            return value
        if not (value or "").strip():
            return None
        found = span_of(value)
        if found is None:
            raise ValidationError(f"“{value.strip()[:40]}” is no span of time; one is 10 min, 4 h or 2 d")
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether a row of a formset was touched."""
        return bool((data or "").strip())


class PercentField(forms.FloatField):
    """Per cent for people, a share of 1 inside."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.NumberInput(attrs={"step": "any", "placeholder": kwargs.pop("example", "")})
        super().__init__(**{"required": False, "min_value": 0, "max_value": 100, "widget": widget, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        """A share as per cent."""
        return number_text(value * 100) if isinstance(value, float) else value

    def clean(self, value: Any) -> Any:
        """Per cent as a share, as exact as it was written."""
        percent = super().clean(value)
        return None if percent is None else round(percent / 100, 9)


class SlugsField(forms.CharField):
    """Short names of sites, divided by blanks or commas, in the order in which they were written; each once."""

    def __init__(self, **kwargs: Any) -> None:
        attrs = {"rows": 4, "class": "mono", "spellcheck": "false", "autocomplete": "off"}
        super().__init__(**{"required": False, "widget": forms.Textarea(attrs=attrs), **kwargs})

    def prepare_value(self, value: Any) -> Any:
        """A list as text."""
        return " ".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        """Text as a list."""
        return slugs_of(value) if not isinstance(value, list) else value


def slugs_of(text: str | None) -> list[str]:
    """The short names in a text, each once."""
    return list(dict.fromkeys(word for word in _BETWEEN.split(text or "") if word))


def moment_of(local: datetime | None, zone: str) -> datetime | None:
    """What a clock in that zone shows, as a moment. Raises ValidationError for an unknown zone."""
    if local is None:
        return None
    if zone not in _ZONES:
        raise ValidationError(f"“{zone[:60]}” is no time zone; one is Europe/Berlin")
    return local.replace(tzinfo=ZoneInfo(zone))


class LocalField(forms.DateTimeField):
    """A date and a time on a clock of which the zone is said elsewhere."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d"]
        super().__init__(**{"required": False, "widget": widget, "input_formats": formats, **kwargs})

    def prepare_value(self, value: Any) -> Any:
        """Left as it stands: there is no zone to convert it to."""
        return value

    def to_python(self, value: Any) -> Any:
        """Without a zone."""
        found = super().to_python(value)
        return found.replace(tzinfo=None) if found is not None else None


# Calendars --------------------------------------------------------------------------------------------------
class WindowForm(forms.Form):
    """Open on some days of the week, from a time to another, on each site's own clock."""

    days = forms.MultipleChoiceField(
        required=False,
        choices=list(enumerate(DAYS)),
        widget=forms.CheckboxSelectMultiple(attrs={"class": "form-check-input"}),
        label="Days",
    )
    begin = forms.TimeField(
        required=False, label="From", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M")
    )
    end = forms.TimeField(required=False, label="To", widget=forms.TimeInput(attrs={"type": "time"}, format="%H:%M"))

    def clean(self) -> dict[str, Any]:
        """All or nothing."""
        given = super().clean() or {}
        parts = {"days": "Say on which days.", "begin": "From when?", "end": "Until when?"}
        missing = [name for name in parts if given.get(name) in (None, "", []) and name not in self.errors]
        if len(missing) < len(parts):
            for name in missing:
                self.add_error(name, parts[name])
        return given

    def value(self) -> dict[str, Any] | None:
        """As windows.Weekly; None for an empty row."""
        given = self.cleaned_data
        if not given.get("days"):
            return None
        days = sorted(int(day) for day in given["days"])
        return {"days": days, "begin": given["begin"].isoformat(), "end": given["end"].isoformat()}


class FreezeForm(forms.Form):
    """Closed from one moment to another, on each site's own clock; for good where no end is said."""

    begin = LocalField(label="From")
    end = LocalField(label="To", help_text="Empty: until it is taken out.")
    reason = forms.CharField(required=False, max_length=200, label="Why")

    def clean(self) -> dict[str, Any]:
        """A freeze has a beginning, and ends after it."""
        given = super().clean() or {}
        begin, end = given.get("begin"), given.get("end")
        if begin is None and (end or given.get("reason")) and "begin" not in self.errors:
            self.add_error("begin", "From when?")
        if begin and end and end <= begin:
            self.add_error("end", "It ends before it begins.")
        return given

    def value(self) -> dict[str, Any] | None:
        """As windows.Freeze; None for an empty row."""
        given = self.cleaned_data
        if given.get("begin") is None:
            return None
        end = given["end"].isoformat() if given["end"] else None
        return {"begin": given["begin"].isoformat(), "end": end, "reason": given["reason"]}


WindowForms = forms.formset_factory(WindowForm, extra=0, max_num=MAX_ROWS, absolute_max=MAX_ROWS)
FreezeForms = forms.formset_factory(FreezeForm, extra=0, max_num=MAX_ROWS, absolute_max=MAX_ROWS)


def calendar_value(windows: Any, freezes: Any) -> dict[str, Any]:
    """Valid formsets as windows.Calendar is written, empty rows and empty lists left out."""
    rows = {
        "windows": [value for form in windows if (value := form.value()) is not None],
        "freezes": [value for form in freezes if (value := form.value()) is not None],
    }
    return {name: values for name, values in rows.items() if values}


def calendar_initial(calendar: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A calendar as it is written, as its two formsets have it. Raises msgspec.ValidationError."""
    read = msgspec.convert(calendar, Calendar)
    windows = [
        {"days": [str(day) for day in window.days], "begin": window.begin, "end": window.end} for window in read.windows
    ]
    freezes = [{"begin": one.begin, "end": one.end, "reason": one.reason} for one in read.freezes]
    return windows, freezes


def rows_changed(data: Any, prefix: str, fields: Sequence[str], step: str) -> Any:
    """A copy of what a formset was sent, in which a row is added, taken out or moved.

    `step`: `add`, `remove:N`, `up:N` or `down:N`, of rows counted from 0; what is none of these changes nothing.
    """
    copy = data.copy()
    total = copy.get(f"{prefix}-TOTAL_FORMS", "0")
    count = min(int(total), MAX_ROWS) if total.isdigit() and len(total) < 4 else 0
    rows = [{name: copy.getlist(f"{prefix}-{number}-{name}") for name in fields} for number in range(count)]
    verb, _, place = step.partition(":")
    at = int(place) if place.isdigit() and len(place) < 4 else -1
    if verb == "add" and count < MAX_ROWS:
        rows.append({name: [] for name in fields})
    elif verb == "remove" and 0 <= at < count:
        del rows[at]
    elif verb in ("up", "down") and 0 <= at < count:
        to = max(0, min(count - 1, at + (1 if verb == "down" else -1)))
        rows.insert(to, rows.pop(at))
    for number in range(max(count, len(rows))):
        for name in fields:
            copy.setlist(f"{prefix}-{number}-{name}", rows[number][name] if number < len(rows) else [])
    copy[f"{prefix}-TOTAL_FORMS"], copy[f"{prefix}-INITIAL_FORMS"] = str(len(rows)), "0"
    return copy


# Holds ------------------------------------------------------------------------------------------------------
class HoldForm(forms.Form):
    """What is held, why, and for how long."""

    what = forms.ChoiceField(label="What is held", widget=forms.RadioSelect)
    sites = SlugsField(label="Short names of the sites", help_text="Divided by blanks or commas; 500 at most.")
    provider = forms.ModelChoiceField(queryset=Provider.objects.none(), required=False, empty_label="—")
    region = forms.ChoiceField(required=False)
    lasts = SpanField(
        label="For how long", required=True, initial=4 * 3600, help_text="Such as 4 h or 3 d; 30 d at most."
    )
    reason = forms.CharField(
        label="Why", min_length=3, max_length=300, help_text="Whoever waits for it reads this; so does the audit."
    )

    def __init__(
        self, *args: Any, kinds: Sequence[tuple[str, str]], providers: Any, regions: Sequence[str], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        what, provider, region = self.fields["what"], self.fields["provider"], self.fields["region"]
        assert isinstance(what, forms.ChoiceField)
        assert isinstance(provider, forms.ModelChoiceField)
        assert isinstance(region, forms.ChoiceField)
        what.choices, provider.queryset = list(kinds), providers
        region.choices = [("", "—"), *((name, name) for name in regions)]

    def clean(self) -> dict[str, Any]:
        """What is held must be named."""
        given = super().clean() or {}
        named = {"sites": "Name the sites.", "region": "Name the region.", "provider": "Name the provider."}
        what = given.get("what")
        if what in named and not given.get(what) and what not in self.errors:
            self.add_error(what, named[what])
        return given
