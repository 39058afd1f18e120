"""Forms of sites and providers. What they hold is handed to services, which check it again and record it."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from fleet.kit.errors import Invalid
from fleet.kit.tenancy import Scope
from sites.models import Provider, Site
from sites.selectors.access import providers_in
from sites.states import Life
from sites.validators import validate_labels, validate_networks


class LinesField(forms.CharField):
    """A list of texts, one a line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        """A list as lines."""
        return "\n".join(value) if isinstance(value, list) else value

    def to_python(self, value: Any) -> Any:
        """Lines as a list, blank ones left out."""
        if isinstance(value, list):
            return value
        return [line.strip() for line in (value or "").splitlines() if line.strip()]


class LabelsField(forms.CharField):
    """Labels as `key=value`, one a line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        """A mapping as lines."""
        return "\n".join(f"{key}={item}" for key, item in sorted(value.items())) if isinstance(value, dict) else value

    def to_python(self, value: Any) -> Any:
        """Lines as a mapping. Raises ValidationError for a line without `=`."""
        if isinstance(value, dict):
            return value
        found = {}
        for line in (value or "").splitlines():
            if not line.strip():
                continue
            key, sign, item = line.partition("=")
            if not sign:
                raise ValidationError(f"“{line.strip()[:60]}” is no label; one is floor=2")
            found[key.strip()] = item.strip()
        return found


def add_errors(form: forms.BaseForm, error: Invalid) -> None:
    """Put a service's refusal onto the fields it names."""
    for name, text in error.details.items():
        field = name.removesuffix("_id")
        form.add_error(field if field in form.fields else None, str(text))
    if not error.details:
        form.add_error(None, error.message)


class _ServiceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A model form that never saves and never asks the database what is unique: services do."""

    def validate_unique(self) -> None:
        """Left to the database: a name may be taken by something that the viewer cannot see."""

    def validate_constraints(self) -> None:
        """Left to the database too."""


class SiteForm(_ServiceForm):
    """A site as people enter it."""

    labels = LabelsField(
        required=False,
        validators=[validate_labels],
        help_text="One key=value a line, such as floor=2.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono"}),
    )
    begin = forms.BooleanField(
        required=False, initial=True, label="Start polling now", help_text="Otherwise it is kept as planned."
    )

    class Meta:
        model = Site
        fields = [
            *("name", "slug", "provider", "region", "ring", "place", "country", "time_zone", "lat", "lon"),
            *("address", "poll_interval_s", "contacts", "notes", "labels"),
        ]
        labels = {
            "slug": "Short name",
            "country": "Country code",
            "lat": "Latitude",
            "lon": "Longitude",
            "poll_interval_s": "Poll interval, seconds",
            "address": "Agent's address",
        }
        help_texts = {
            "slug": "Used in addresses of pages: lower-case letters, digits and hyphens.",
            "ring": "Rollouts reach rings one after another.",
            "place": "Type a city; choosing one fills in the rest.",
        }
        widgets = {
            "contacts": forms.Textarea(attrs={"rows": 3}),
            "notes": forms.Textarea(attrs={"rows": 4}),
            "lat": forms.NumberInput(attrs={"step": "any", "min": -90, "max": 90}),
            "lon": forms.NumberInput(attrs={"step": "any", "min": -180, "max": 180}),
            "time_zone": forms.TextInput(attrs={"spellcheck": "false"}),
        }

    def __init__(self, *args: Any, who: Scope, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        provider = self.fields["provider"]
        assert isinstance(provider, forms.ModelChoiceField)
        provider.queryset = providers_in(who)
        if self.instance.pk:
            del self.fields["begin"]

    def values(self) -> dict[str, Any]:
        """What the service takes."""
        values = {name: value for name, value in self.cleaned_data.items() if name not in ("begin", "provider")}
        return values | {"provider_id": self.cleaned_data["provider"].pk}

    def life(self) -> str:
        """Active or planned, as ticked."""
        return Life.ACTIVE if self.cleaned_data.get("begin") else Life.PLANNED


class ProviderForm(_ServiceForm):
    """A provider as people enter it."""

    allowed_networks = LinesField(
        required=False,
        validators=[validate_networks],
        label="Allowed networks",
        help_text="One network a line, such as 203.0.113.0/24. Empty allows every public one.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono"}),
    )

    class Meta:
        model = Provider
        fields = ["name", "slug", "contact", "allowed_networks"]
        labels = {"slug": "Short name", "contact": "Contact"}
        widgets = {"contact": forms.Textarea(attrs={"rows": 4})}


class ImportForm(forms.Form):
    """A CSV file of sites."""

    file = forms.FileField(
        label="CSV file", help_text="Up to 10,000 rows.", widget=forms.FileInput(attrs={"accept": ".csv,text/csv"})
    )


class NoteForm(forms.Form):
    """A word with an acknowledgement."""

    note = forms.CharField(required=False, max_length=500)
