"""What a person agreed to before they say it, held against the rollout as it is when it is said."""

from datetime import datetime, timedelta
from typing import Final

from fleet.kit.clock import database_now
from fleet.kit.errors import Conflict, Invalid
from fleet.kit.tenancy import Rights, Scope, scope
from fleet.rollouts.effects import WITHOUT_NUMBER
from fleet.rollouts.engine.commands import Choice
from fleet.rollouts.models import Rollout
from fleet.rollouts.selectors.head import head
from fleet.rollouts.selectors.offering import offered
from fleet.rollouts.selectors.rollouts import sees_whole

# JSON holds moments to the millisecond, the database to the microsecond.
_PRECISION: Final = timedelta(milliseconds=1)


def check_agreed(
    *,
    actor: Scope,
    rights: Rights,
    rollout: Rollout,
    verb: str,
    choice: Choice | None = None,
    since: datetime | None = None,
    sites: int | None = None,
) -> None:
    """Lock the rollout, and refuse what a person did not mean: they saw another state, or fewer sites are agreed to.

    `since` is that of the rollout as it was looked at (None: whatever it is now); `sites` is the number that was
    typed, needed where the effect has needs_typing. To be called in the transaction in which it is said. What cannot
    be said at all is left to the command itself. Raises Conflict, Invalid.
    """
    with scope(actor):
        whole = sees_whole(actor)
        found = Rollout.objects.only("id", "state", "since", "author_id" if whole else "name")
        row = (found.select_for_update(of=("self",)) if whole else found).get(pk=rollout.pk)
        if since is not None and not since <= row.since < since + _PRECISION:
            words = f"it is {row.state.replace('_', ' ')} since {row.since:%Y-%m-%d %H:%M:%S} UTC"
            raise Conflict(f"It has moved meanwhile: {words}. Look at it first.", details={"since": "not any more"})
        now = database_now()
        seen = head(row.pk, now) if whole else None
        found_effects = offered(actor, rights, row, seen, now)
        effect = next((one for one in found_effects if (one.verb, one.choice) == (verb, choice)), None)
    if effect is None or verb in WITHOUT_NUMBER:
        return
    if sites is None and effect.needs_typing:
        words = f"It touches {effect.sites:,} sites: agree to them by sending their number."
        raise Invalid(words, details={"sites": f"{effect.sites} are touched"})
    if sites is not None and effect.sites > sites:
        words = f"It touches {effect.sites:,} sites now, and {sites:,} were agreed to. Look at it first."
        raise Conflict(words, details={"sites": f"{effect.sites} are touched"})
