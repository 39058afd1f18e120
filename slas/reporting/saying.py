"""What a report comes to, in one word and one sentence. Pure."""

from collections.abc import Sequence
from decimal import Decimal

from slas.reporting.counted import Latency, Synced
from slas.reporting.paper import Paper, Promise, Restored

ORDER = ("MISSED", "UNDETERMINED", "MET")
Credited = Promise | Synced | Restored


def verdict_of(paper: Paper) -> str:
    """The worst verdict of all promises; `NONE` where nothing was to be measured."""
    found = _verdicts(paper)
    return next((word for word in ORDER if word in found), "NONE")


def credited_of(paper: Paper) -> list[Credited]:
    """The promises that a credit is agreed for: those with a target in per cent."""
    every: Sequence[Credited] = [*paper.promises, *paper.synced, *paper.restored]
    return [one for one in every if one.currency]


def owed(paper: Paper) -> list[tuple[Decimal, str]]:
    """What is credited, by currency."""
    found: dict[str, Decimal] = {}
    for one in credited_of(paper):
        found[one.currency] = found.get(one.currency, Decimal(0)) + one.credit
    return [(amount, currency) for currency, amount in sorted(found.items()) if amount]


def sentence_of(paper: Paper) -> str:
    """How many promises were kept, and what is credited."""
    found = _verdicts(paper)
    kept, missed, open_ = (found.count(word) for word in ("MET", "MISSED", "UNDETERMINED"))
    if not kept + missed + open_:
        return "Nothing was to be measured in this time."
    parts = [f"{kept} of {kept + missed + open_} promises were kept"]
    parts += [f"{missed} missed"] if missed else []
    parts += [f"{open_} cannot be told yet"] if open_ else []
    money = ", ".join(f"{amount:,} {currency}" for amount, currency in owed(paper))
    return ", ".join(parts) + "." + (f" Credits: {money}." if money else " No credit is due.")


def _verdicts(paper: Paper) -> list[str | None]:
    every: list[Credited | Latency] = [*paper.promises, *paper.restored, *paper.synced, *paper.latencies]
    return [one.verdict for one in every]
