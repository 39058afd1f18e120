"""Forms of what people say to a rollout. What they hold is handed to services, which check it again and record it."""

from typing import Any, Final

from django import forms

from fleet.rollouts.effects import Effect

# Verbs whose services take a reason, and those that take a time.
WITH_REASON: Final = (
    *("approve", "reject", "pause", "freeze", "resume"),
    *("abort", "roll_back_wave", "roll_back", "reopen_lane"),
)
WITH_HOURS: Final = ("pause", "freeze")
# Whoever must stop a rollout at night is asked for no number first.
WITHOUT_NUMBER: Final = ("pause", "freeze")


class CommandForm(forms.Form):
    """One command. `expect` is the plan that was seen, `mark` how the rollout stood, `shown` how many sites it said."""

    expect = forms.CharField(widget=forms.HiddenInput, max_length=71)
    mark = forms.CharField(widget=forms.HiddenInput, max_length=120, required=False)
    shown = forms.IntegerField(widget=forms.HiddenInput, min_value=0)

    def __init__(self, effect: Effect, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.effect = effect
        self.is_typed = effect.needs_typing and effect.verb not in WITHOUT_NUMBER
        if effect.verb == "answer":
            choices = [("yes", "Yes, go on"), ("no", "No, stay held")]
            self.fields["answer"] = forms.ChoiceField(choices=choices, widget=forms.RadioSelect, label="Your answer")
        if effect.verb in WITH_HOURS:
            self.fields["hours"] = forms.IntegerField(
                required=False,
                min_value=1,
                max_value=8760,
                label="For how many hours",
                help_text="Empty: as long as the plan allows.",
            )
        if effect.verb in WITH_REASON:
            self.fields["reason"] = forms.CharField(
                required=effect.needs_reason,
                max_length=300,
                label="Why",
                help_text="Others will read it at 3 a.m." if effect.needs_reason else "",
                widget=forms.TextInput(attrs={"autocomplete": "off"}),
            )
        if self.is_typed:
            self.fields["typed"] = forms.CharField(
                max_length=12,
                label=f"Type {effect.sites}, the number of sites",
                widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "class": "mono"}),
            )

    def clean(self) -> dict[str, Any]:
        """The number that was typed is the one that was shown, and no more sites are touched by now."""
        values = super().clean() or {}
        shown, typed = values.get("shown"), values.get("typed")
        if self.is_typed and shown is not None:
            if shown < self.effect.sites:
                self.add_error(
                    None, f"It would touch {self.effect.sites:,} sites by now. Look at it, and type it anew."
                )
            elif typed is not None and _digits(typed) != str(shown):
                self.add_error("typed", f"That is not the number of sites: {shown}.")
        return values

    def options(self) -> dict[str, Any]:
        """What the service takes, beside the rollout and who says it."""
        values, verb = self.cleaned_data, self.effect.verb
        found: dict[str, Any] = {"expect": values["expect"]}
        if verb in WITH_REASON:
            found["reason"] = values["reason"]
        if verb in WITH_HOURS and values["hours"]:
            found["seconds"] = values["hours"] * 3600
        if verb == "resume":
            found["choice"] = self.effect.choice
        if verb == "answer":
            found["yes"] = values["answer"] == "yes"
        return found


def _digits(text: str) -> str:
    return "".join(sign for sign in text if sign not in " ,.\u00a0\u202f")


class HoldForm(forms.Form):
    """Not now: why, and for how long."""

    reason = forms.CharField(max_length=300, min_length=3, label="Why", help_text="Others will read it at 3 a.m.")
    hours = forms.IntegerField(min_value=1, max_value=720, initial=24, label="For how many hours")
