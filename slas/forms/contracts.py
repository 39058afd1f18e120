"""What stands around the terms in the editor of a contract."""

from django import forms


class AboutForm(forms.Form):
    """The name of a new contract, and why it is agreed."""

    name = forms.CharField(max_length=120)
    slug = forms.SlugField(max_length=64, label="Short name", help_text="Lower-case letters, digits and hyphens.")


class WhyForm(forms.Form):
    """Why; `expect` is the version that the person began from."""

    reason = forms.CharField(
        label="Why", min_length=3, max_length=300, help_text="Stays with the version, for both sides."
    )
    expect = forms.IntegerField(required=False, min_value=0, max_value=2**31 - 1, widget=forms.HiddenInput)
