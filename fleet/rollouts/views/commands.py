"""What people say to a rollout: a page each that says what it will do, in words and numbers, before it does it.

All are marked `dangerous` but pause and freeze: whoever must stop a rollout at night is asked for nothing else first.
"""

from collections.abc import Callable
from typing import Any, Final

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render as django_render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from fleet.kit.clock import database_now
from fleet.kit.dangerous import dangerous
from fleet.kit.errors import Conflict, Invalid, NotAllowed
from fleet.kit.http import ScopedRequest
from fleet.rollouts.effects import Effect
from fleet.rollouts.engine.facts import Head
from fleet.rollouts.forms_commands import CommandForm
from fleet.rollouts.models import Rollout
from fleet.rollouts.present_words import state_words
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.offering import offered, voice
from fleet.rollouts.selectors.rollouts import get_rollout, sees_whole
from fleet.rollouts.selectors.watching import without_origin
from fleet.rollouts.services import control
from fleet.rollouts.services.planning import lock_rollout
from fleet.rollouts.states import ACTIVE_WAVE

View = Callable[..., HttpResponse]
COMMANDS: Final[dict[str, Callable[..., Any]]] = {
    "submit": control.submit,
    "approve": control.approve,
    "reject": control.reject,
    "start": control.start,
    "pause": control.pause,
    "freeze": control.freeze,
    "resume": control.resume,
    "answer": control.answer,
    "abort": control.abort,
    "roll_back_wave": control.roll_back_wave,
    "roll_back": control.roll_back,
    "reopen_lane": control.reopen_lane,
}
DONE: Final = {
    "submit": "It waits for approval now.",
    "approve": "You approved this plan.",
    "reject": "You rejected this plan.",
    "start": "It starts now.",
    "pause": "It is stopped: no further site is begun.",
    "freeze": "It is frozen: sites at work hold at their next safe point.",
    "resume": "It goes on.",
    "answer": "Your answer is noted; the gates are asked again.",
    "abort": "It is given up.",
    "roll_back_wave": "The wave goes back; then it waits for your choice.",
    "roll_back": "It goes back.",
    "reopen_lane": "The catch-up lane is open again.",
}
_RIGHTS: Final = {"submit": "rollout.plan", "approve": "", "reject": ""}
# They are about one hold, or one wave: a press that was meant for an earlier one does nothing.
_OF_THIS_HOLD: Final = ("resume", "answer", "roll_back_wave", "reopen_lane")


def _say(request: ScopedRequest, pk: int, verb: str) -> HttpResponse:
    row = get_rollout(scope=request.who, pk=pk)
    whole = sees_whole(request.who)
    if request.method == "POST" and whole:
        row = lock_rollout(row, row.plan_hash)
    seen = head(row.pk, database_now()) if whole else None
    effect = _offer(request, row, seen, verb)
    if effect is None:
        return _too_late(request, row)
    mark = _mark(row, seen)
    if request.method != "POST":
        initial = {"expect": row.plan_hash, "mark": mark, "shown": effect.sites}
        return _page(request, row, seen, effect, CommandForm(effect, initial=initial))
    form = CommandForm(effect, request.POST)
    if not form.is_valid():
        return _page(request, row, seen, effect, form)
    if verb in _OF_THIS_HOLD and form.cleaned_data["mark"] != mark:
        return _too_late(request, row)
    options = form.options()
    if verb == "answer":
        assert seen is not None  # nobody else is offered it
        options["wave"] = _present_wave(seen)
    try:
        COMMANDS[verb](actor=request.who, rights=request.rights, rollout=row, **options)
    except (Conflict, Invalid) as error:
        messages.error(request, f"Nothing was done. {error.message}")
    else:
        messages.success(request, f"{row.name}: {DONE[verb]}")
    return HttpResponseRedirect(reverse("rollout", args=[row.pk]))


def _offer(request: ScopedRequest, row: Rollout, seen: Head | None, verb: str) -> Effect | None:
    """The effect that was asked for; None where the rollout's state forbids it. Raises NotAllowed."""
    right = _RIGHTS.get(verb, "rollout.run")
    if not right:
        voice(request.who, request.rights, row)
    elif not request.rights.may(right):
        raise NotAllowed("Your role does not allow this on rollouts.")
    choice = (request.POST or request.GET).get("choice", "")
    found = offered(request.who, request.rights, row, seen, database_now())
    return next((one for one in found if one.verb == verb and (one.choice or "") == choice), None)


def _mark(row: Rollout, seen: Head | None) -> str:
    """How the rollout stands: another one, and somebody was faster."""
    wave = next((wave for wave in seen.waves if wave.state in ACTIVE_WAVE), None) if seen else None
    parts = [row.state, row.pause, row.lane, row.since.isoformat()]
    return " ".join([*parts, f"{wave.index} {wave.state}" if wave else ""])


def _too_late(request: ScopedRequest, row: Rollout) -> HttpResponse:
    label = state_words(row.state, row.pause)[0].lower()
    messages.error(request, f"Nothing was done: the rollout is {label} now, maybe somebody was faster. Look again.")
    return HttpResponseRedirect(reverse("rollout", args=[row.pk]))


def _present_wave(seen: Head) -> int:
    return next(wave.index for wave in seen.waves if wave.state in ACTIVE_WAVE)


def _page(request: ScopedRequest, row: Rollout, seen: Head | None, effect: Effect, form: CommandForm) -> HttpResponse:
    stay = 0
    if effect.verb == "roll_back":
        stay = without_origin(request.who, row)
    elif effect.verb == "roll_back_wave" and seen is not None:
        stay = without_origin(request.who, row, _present_wave(seen))
    context = {"rollout": row, "effect": effect, "form": form, "stay": stay}
    return django_render(request, "rollouts/do.html", context, status=422 if form.errors else 200)


def _view(verb: str) -> View:
    def view(request: ScopedRequest, pk: int) -> HttpResponse:
        return _say(request, pk, verb)

    view.__doc__ = f"{verb}: what it would do, and doing it. Raises NotFound, NotAllowed."
    is_guarded = verb not in ("pause", "freeze")
    marked = dangerous(f"rollout.{verb}")(view) if is_guarded else view
    return require_http_methods(["GET", "HEAD", "POST"])(marked)


VIEWS: Final[dict[str, View]] = {verb: _view(verb) for verb in COMMANDS}
