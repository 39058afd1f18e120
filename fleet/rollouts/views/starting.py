"""Where a plan or a hold begins: what was picked or filtered on another page, as a selection.

Pages hand over what they have: the map, the list of sites and compliance their own queries (`from`, and their names);
picked sites are short names (`sites`) or the list's boxes (`pick`). A filter stays a filter where a selection can say
it; else it is resolved here, so that what the page showed is what is selected.
"""

from collections.abc import Mapping
from typing import Any

from django.db.models import Q, QuerySet
from django.http import QueryDict

from fleet.kit.http import ScopedRequest
from fleet.kit.tenancy import Scope
from fleet.rollouts.forms import slugs_of
from fleet.rollouts.plan import read_plan
from fleet.rollouts.selectors.rollouts import get_rollout
from fleet.rollouts.services.planning import plan_values
from sites.filters import SiteFilter
from sites.models import Site
from sites.selectors.access import providers_in, sites_in
from sites.states import Life

# What a selection cannot say as a page means it: `q` is looked for in other columns everywhere.
_ONLY_THERE = ("q", "identity", "life")
_LISTS = ("providers", "regions", "rings", "kinds")
_TEXTS = ("text", "follows", "ring", "compliance")


def begun(request: ScopedRequest) -> dict[str, Any]:
    """The recipe that a plan begins with. Raises NotFound for a rollout (`again`) that is not the viewer's to see."""
    given = request.POST if request.method == "POST" else request.GET
    again = given.get("again", "")
    if again.isascii() and again.isdigit() and len(again) < 10:
        return recipe_of(request.who, int(again))
    recipe: dict[str, Any] = {"select": selection(request.who, given)}
    standard = given.get("to", "")[:120]
    return {"standard": standard, **recipe} if standard else recipe


def selection(who: Scope, given: QueryDict) -> dict[str, Any]:
    """What was selected elsewhere, as recipe.Selection is written; empty where nothing was."""
    picked = slugs_of(given.get("sites")) or _picked(who, given.getlist("pick"))
    if picked:
        return {"sites": picked}
    query = QueryDict(given.get("query", "")) if "query" in given else given
    match given.get("from", ""):
        case "map" | "sites" as place:
            return _of_filters(who, query, on_map=place == "map")
        case "compliance":
            return _of_compliance(query)
    found: dict[str, Any] = {name: given.getlist(name) for name in _LISTS if given.getlist(name)}
    found |= {name: given[name][:120] for name in _TEXTS if given.get(name)}
    return found or ({"everything": True} if given.get("everything") else {})


def _picked(who: Scope, numbers: list[str]) -> list[str]:
    """Short names of the sites whose boxes were ticked, those that the viewer may see."""
    ids = _ids(numbers[:1000])
    return list(sites_in(who).filter(pk__in=ids).order_by("slug").values_list("slug", flat=True)) if ids else []


def _ids(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10]


def _words(query: QueryDict, name: str) -> list[str]:
    return [word for word in ",".join(query.getlist(name)).split(",") if word]


def _of_filters(who: Scope, query: QueryDict, *, on_map: bool) -> dict[str, Any]:
    """Filters of the map or of the list of sites."""
    if any(query.get(name) for name in _ONLY_THERE):
        found = _on_map(who, query) if on_map else SiteFilter(query, queryset=sites_in(who), who=who).qs
        return {"sites": list(found.filter(life=Life.ACTIVE).order_by("slug").values_list("slug", flat=True))}
    numbers = _ids(_words(query, "provider"))
    slugs = list(providers_in(who).filter(pk__in=numbers).values_list("slug", flat=True)) if numbers else []
    named = {
        "providers": slugs,
        "regions": _words(query, "region"),
        "rings": _words(query, "ring"),
        "kinds": _words(query, "state"),
    }
    return {name: values for name, values in named.items() if values} or {"everything": True}


def _on_map(who: Scope, query: QueryDict) -> QuerySet[Site]:
    """Sites that the map lets through, of which it looks for a text in name, short name, provider and region."""
    rest = query.copy()
    text = rest.pop("q", [""])[-1].strip()[:100]
    named: dict[str, Any] = {"provider__in": _ids(_words(rest, "provider"))}
    named |= {"region__in": _words(rest, "region"), "ring__in": _words(rest, "ring")}
    found: QuerySet[Site] = sites_in(who).filter(**{name: values for name, values in named.items() if values})
    if _words(rest, "state"):
        found = SiteFilter(QueryDict(f"state={','.join(_words(rest, 'state'))}"), queryset=found, who=who).qs
    anywhere = Q()
    for column in ("name", "slug", "provider__name", "region"):
        anywhere |= Q(**{f"{column}__icontains": text})
    return found.filter(anywhere) if text else found


def _of_compliance(query: QueryDict) -> dict[str, Any]:
    """The choices of the compliance page."""
    found: dict[str, Any] = {}
    for name, member in (("provider", "providers"), ("region", "regions")):
        if query.get(name):
            found[member] = [query[name][:120]]
    for name, member in (("ring", "ring"), ("standard", "follows")):
        if query.get(name):
            found[member] = query[name][:120]
    if query.get("state") in ("conform", "drift", "unknown", "none"):
        found["compliance"] = query["state"]
    if query.get("kind") and query.get("name"):
        found["component"] = {name: query[name][:520] for name in ("kind", "name", "version") if name in query}
    return found or {"everything": True}


def recipe_of(who: Scope, pk: int) -> dict[str, Any]:
    """What a rollout was planned with: its recipe, or one that names its sites one by one. Raises NotFound."""
    row = get_rollout(scope=who, pk=pk)
    if row.recipe:
        return dict(row.recipe)
    values = plan_values(read_plan(row.plan))
    ids = [site for wave in values["waves"] for site in wave["sites"]]
    slugs = dict(sites_in(who).filter(pk__in=ids).values_list("pk", "slug"))
    waves = [_named(wave, slugs) for wave in values["waves"]]
    return values | {"waves": waves, "select": {"sites": sorted(slugs.values())}}


def _named(wave: Mapping[str, Any], slugs: Mapping[int, str]) -> dict[str, Any]:
    kept = {name: wave[name] for name in ("name", "gates", "canary") if wave.get(name)}
    return kept | {"sites": [slugs[site] for site in wave["sites"] if site in slugs]}
