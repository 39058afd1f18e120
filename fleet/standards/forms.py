"""Forms of standards and rings. What they hold is handed to services, which check it again and record it."""

from typing import Any

from django import forms

from fleet.kit.tenancy import Scope
from fleet.standards.models import Ring, Standard
from fleet.standards.states import Extras, Severity
from sites.forms import LabelsField
from sites.models import Provider
from sites.selectors.access import providers_in, regions_in
from sites.validators import validate_labels


class AboutForm(forms.Form):
    """All of a standard but its content. `expect` is the digest that the person began from."""

    name = forms.CharField(
        max_length=64,
        help_text="Lower-case letters and digits, dots and hyphens, such as 2026.11-r3.",
        widget=forms.TextInput(attrs={"class": "mono", "spellcheck": "false", "autocomplete": "off"}),
    )
    severity = forms.ChoiceField(choices=Severity.choices)
    deadline_h = forms.IntegerField(
        required=False, min_value=1, max_value=8760, label="Sites run it within, hours", help_text="Empty: no deadline."
    )
    extras = forms.ChoiceField(choices=Extras.choices, label="Containers that are not managed are")
    notes = forms.CharField(
        required=False, max_length=20_000, help_text="What is new, and why.", widget=forms.Textarea(attrs={"rows": 3})
    )
    expect = forms.CharField(required=False, widget=forms.HiddenInput)

    def values(self) -> dict[str, Any]:
        """What services take."""
        return {name: value for name, value in self.cleaned_data.items() if name != "expect"}


def about_initial(standard: Standard | None) -> dict[str, Any]:
    """A standard as the form has it."""
    if standard is None:
        return {"severity": Severity.ROUTINE, "extras": Extras.ALLOW}
    names = ("name", "severity", "deadline_h", "extras", "notes")
    return {name: getattr(standard, name) for name in names} | {"expect": standard.sha256}


class RingForm(forms.Form):
    """A ring, and which sites it holds: every part that is set must fit."""

    name = forms.CharField(max_length=64)
    slug = forms.SlugField(max_length=64, label="Short name", help_text="Lower-case letters, digits and hyphens.")
    labels = LabelsField(
        required=False,
        validators=[validate_labels],
        help_text="One key=value a line; all must fit. The ring that a site itself names is its label ring.",
        widget=forms.Textarea(attrs={"rows": 3, "class": "mono", "placeholder": "ring=canary"}),
    )
    regions = forms.MultipleChoiceField(required=False, help_text="Any of these; none chosen: all.")
    providers = forms.ModelMultipleChoiceField(
        queryset=Provider.objects.none(), required=False, help_text="Any of these; none chosen: all."
    )
    note = forms.CharField(required=False, max_length=500)

    def __init__(self, *args: Any, who: Scope, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        regions, providers = self.fields["regions"], self.fields["providers"]
        assert isinstance(regions, forms.MultipleChoiceField)
        assert isinstance(providers, forms.ModelMultipleChoiceField)
        known = {*regions_in(who), *self.initial.get("regions", [])}
        regions.choices = [(name, name) for name in sorted(known)]
        providers.queryset = providers_in(who)

    def values(self) -> dict[str, Any]:
        """What services take."""
        return self.cleaned_data | {"providers": [row.pk for row in self.cleaned_data["providers"]]}


def ring_initial(ring: Ring) -> dict[str, Any]:
    """A ring as the form has it."""
    return {name: getattr(ring, name) for name in ("name", "slug", "labels", "regions", "providers", "note")}


class ReasonForm(forms.Form):
    """Why."""

    reason = forms.CharField(
        label="Why", min_length=3, max_length=300, help_text="Stays in the history and the audit, for everybody."
    )
