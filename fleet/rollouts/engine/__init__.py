"""The engine: `decide(snapshot, now)` says what a rollout does next. Pure: no Django, no I/O, no clock.

Read it in this order: `facts` (what it sees), `actions` (what it says), `decide` (one tick from top to bottom), then
what `decide` calls: `approvals`, `steps`, `waves`, `claims`, `rollback`, `endings`; and `commands`: what people may
say. `asks` tells which rows a tick wants to see.
"""

from fleet.rollouts.engine.asks import Asks, asks, wants_another
from fleet.rollouts.engine.decide import decide

__all__ = ["Asks", "asks", "decide", "wants_another"]
