"""Sites that were picked, or filtered, on another page, handed over to a maintenance window."""

from django.db.models import Q, QuerySet
from django.http import QueryDict

from fleet.kit.tenancy import Scope
from sites.filters import SiteFilter, of_kinds
from sites.models import Site
from sites.selectors.access import sites_in
from sites.states import Life
from slas.forms.upkeep import slugs_of

MOST = 5_000


def picked_sites(who: Scope, given: QueryDict) -> list[str]:
    """Short names: named, ticked (`pick`), or what passes the filters in `query` of the list or the map (`from`)."""
    named = slugs_of(given.get("sites", ""))
    if named:
        return named[:MOST]
    found = sites_in(who)
    if given.getlist("pick"):
        found = found.filter(pk__in=_ids(given.getlist("pick")[:1000]))
    elif given.get("from") == "map":
        found = _on_map(who, QueryDict(given.get("query", "")))
    elif given.get("from") == "sites":
        found = SiteFilter(QueryDict(given.get("query", "")), queryset=found, who=who).qs.filter(life=Life.ACTIVE)
    else:
        return []
    return list(found.order_by("slug").values_list("slug", flat=True)[:MOST])


def _on_map(who: Scope, query: QueryDict) -> QuerySet[Site]:
    """Active sites that the map lets through: any of each list, and a text in name, provider or region."""
    found = sites_in(who).filter(life=Life.ACTIVE)
    for name, values in (
        ("provider__in", _ids(_words(query, "provider"))),
        ("region__in", _words(query, "region")),
        ("ring__in", _words(query, "ring")),
    ):
        found = found.filter(**{name: values}) if values else found
    if _words(query, "state"):
        found = found.filter(of_kinds(_words(query, "state")))
    text = query.get("q", "").strip()[:100]
    if not text:
        return found
    anywhere = Q()
    for column in ("name", "slug", "provider__name", "region"):
        anywhere |= Q(**{f"{column}__icontains": text})
    return found.filter(anywhere)


def _words(query: QueryDict, name: str) -> list[str]:
    return [word for word in ",".join(query.getlist(name)).split(",") if word]


def _ids(words: list[str]) -> list[int]:
    return [int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 10]
