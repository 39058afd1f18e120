"""What a report comes to, in one word and one sentence. Pure."""

from decimal import Decimal

from slas.reporting.paper import Paper

ORDER = ("MISSED", "UNDETERMINED", "MET")


def verdict_of(paper: Paper) -> str:
    """The worst verdict of all promises; `NONE` where nothing was to be measured."""
    found = _verdicts(paper)
    return next((word for word in ORDER if word in found), "NONE")


def owed(paper: Paper) -> list[tuple[Decimal, str]]:
    """What is credited, by currency."""
    found: dict[str, Decimal] = {}
    for one in paper.promises:
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
    money = ", ".join(f"{amount} {currency}" for amount, currency in owed(paper))
    return ", ".join(parts) + "." + (f" Credits: {money}." if money else " No credit is due.")


def _verdicts(paper: Paper) -> list[str | None]:
    return [*(one.verdict for one in paper.promises), *(one.verdict for one in paper.restored)]
