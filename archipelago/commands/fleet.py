"""`sites`, `site`, `compliance`: how the fleet is."""

import argparse
from collections.abc import Iterator
from typing import Any

from archipelago.client import Client, Json, path_of
from archipelago.commands.common import add_json, add_limit, client, now, show
from archipelago.errors import RefusedError, StoppedError
from archipelago.text import age, clock, plain, sites, table, words

_FILTERS = ("state", "provider", "region", "ring", "life")
_NARROWING = ("provider", "ring", "standard", "region")


def add(commands: Any) -> None:
    """Describe the commands."""
    several = commands.add_parser("sites", help="the sites, and how they are")
    for name in _FILTERS:
        several.add_argument(f"--{name}", default="", help=f"only those of this {name}")
    several.add_argument("--search", default="", metavar="TEXT", help="only those with this in name, place or slug")
    add_limit(several, 100)
    add_json(several)
    several.set_defaults(command=_sites)
    one = commands.add_parser("site", help="one site, and what it runs")
    one.add_argument("name", metavar="NAME", help="its slug, or its name")
    add_json(one)
    one.set_defaults(command=_site)
    compliance = commands.add_parser("compliance", help="which sites run what they should, and what differs")
    for name in _NARROWING:
        compliance.add_argument(f"--{name}", default="", help=f"only of this {name}")
    add_json(compliance)
    compliance.set_defaults(command=_compliance)


# Sites ------------------------------------------------------------------------------------------------------
def _sites(options: argparse.Namespace) -> int:
    query = {name: getattr(options, name) for name in _FILTERS} | {"q": options.search}
    found = list(client().pages("/sites", query, options.limit))
    at = now()
    rows = [
        (one["slug"], one["name"], words(one["state"]), age(one["since"], at), one["compliance"], one["provider"])
        for one in found
    ]
    lines = table(("SITE", "NAME", "STATE", "SINCE", "COMPLIANCE", "PROVIDER"), rows)
    if len(found) == options.limit:
        lines.append(f"These are the first {options.limit:,}; --limit shows more.")
    show(found, lines if found else ["No site is like that."], options)
    return 0


def _site(options: argparse.Namespace) -> int:
    api = client()
    row = _named(api, options.name)
    judged = api.get(f"{path_of('sites', row['slug'])}/compliance")
    show({**row, "judgement": judged}, _site_lines(row, judged), options)
    return 0


def _named(api: Client, name: str) -> Json:
    """The site of this slug, or else of this name. Raises RefusedError, StoppedError."""
    try:
        return api.get(path_of("sites", name))
    except RefusedError as error:
        if error.http not in (404, 422):
            raise
    found = [one for one in api.pages("/sites", {"q": name}, 50) if one["name"].casefold() == name.casefold()]
    if len(found) == 1:
        return api.get(path_of("sites", found[0]["slug"]))
    if found:
        slugs = ", ".join(plain(one["slug"]) for one in found)
        raise StoppedError(f"{len(found)} sites are called {plain(name)!r}: {slugs}.")
    raise StoppedError(f"There is no site {plain(name)!r}, or it is not yours to see.")


def _site_lines(row: Json, judged: Json) -> Iterator[str]:
    at = now()
    reasons = f" ({plain('; '.join(row['reasons']))})" if row["reasons"] else ""
    yield f"{plain(row['name'])} ({plain(row['slug'])}): {words(row['state'])}{reasons}"
    yield f"  since {clock(row['since'])}, last heard {age(row['last_report_at'], at)} ago"
    facts = (("place", row["place"]), ("region", row["region"]), ("provider", row["provider"]), ("ring", row["ring"]))
    yield "  " + ", ".join(f"{name} {plain(value)}" for name, value in facts if value)
    yield f"  compliance: {words(judged['compliance'])} with {plain(judged['standard'] or 'no standard')}"
    yield from (f"    {plain(one['words'])}" for one in judged["differences"])
    yield ""
    parts = [(one["kind"], one["name"], one["version"] or "-") for one in row["components"]]
    yield from table(("KIND", "NAME", "VERSION"), parts)


# Compliance -------------------------------------------------------------------------------------------------
def _compliance(options: argparse.Namespace) -> int:
    api = client()
    query = {name: getattr(options, name) for name in _NARROWING}
    figures = api.get("/compliance", query)
    drift = api.get("/compliance/drift", query)["items"]
    show({**figures, "differences": drift}, _compliance_lines(figures, drift), options)
    return 0


def _compliance_lines(figures: Json, drift: list[Json]) -> Iterator[str]:
    states = ("conform", "drift", "unknown", "none")
    yield f"{sites(figures['sites'])}: " + ", ".join(f"{figures[state]:,} {state}" for state in states)
    for group in ("standard", "ring", "provider"):
        rows = [(one["name"] or "-", one["sites"], *(one[state] for state in states)) for one in figures[f"by_{group}"]]
        if rows:
            yield ""
            yield from table((group.upper(), "SITES", *(state.upper() for state in states)), rows)
    if drift:
        yield ""
        yield from table(("SITES", "DIFFERENCE"), [(one["sites"], one["words"]) for one in drift[:20]])
