"""Filters of the list of sites; all of them live in the URL."""

from functools import reduce
from operator import or_
from typing import Any

import django_filters
from django import forms
from django.db.models import Case, IntegerField, Q, QuerySet, Value, When
from django.utils import timezone

from fleet.kit.tenancy import Scope
from sites.models import Provider, Site
from sites.selectors.access import providers_in, regions_in, rings_in
from sites.selectors.identity import of_identity
from sites.states import Life, Reachability

IDENTITIES = (
    ("none", "Not enrolled"),
    ("waiting", "Waiting"),
    ("enrolled", "Enrolled"),
    ("expiring", "Expiring in 3 days"),
    ("frozen", "Frozen"),
)
KINDS = ("up", "degraded", "down", "unreachable", "unknown")
_UNREACHABLE = Q(state__reachability=Reachability.UNREACHABLE)

# 0 for the worst: the order of "needs attention".
BADNESS = Case(
    When(~Q(life=Life.ACTIVE), then=Value(9)),
    When(_UNREACHABLE, then=Value(1)),
    When(state__shown="down", then=Value(0)),
    When(state__shown="degraded", then=Value(2)),
    When(state__shown="up", then=Value(4)),
    default=Value(3),
    output_field=IntegerField(),
)


def of_kinds(kinds: list[str]) -> Q:
    """Active sites of any of these kinds; one that is unreachable is nothing else."""
    found = Q(pk__in=[])
    for kind in kinds:
        if kind == "unreachable":
            found |= _UNREACHABLE
        elif kind in KINDS:
            found |= Q(state__shown=kind) & ~_UNREACHABLE
    return found & Q(life=Life.ACTIVE)


class SiteFilter(django_filters.FilterSet):  # type: ignore[misc]  # carries no types
    """Text, state, provider, region, ring, identity and life; retired sites are shown when asked for."""

    q = django_filters.CharFilter(method="filter_text", label="Search", max_length=100)
    state = django_filters.CharFilter(method="filter_state", label="State", widget=forms.HiddenInput)
    provider = django_filters.ModelChoiceFilter(queryset=Provider.objects.none(), empty_label="All providers")
    region = django_filters.ChoiceFilter(empty_label="All regions")
    ring = django_filters.ChoiceFilter(empty_label="All rings")
    identity = django_filters.ChoiceFilter(
        method="filter_identity", choices=IDENTITIES, empty_label="Any identity", label="Identity"
    )
    life = django_filters.ChoiceFilter(
        method="filter_life", choices=[*Life.choices, ("all", "All")], empty_label="Not retired", label="Life"
    )

    class Meta:
        model = Site
        fields: list[str] = []

    def __init__(self, data: Any, *, queryset: QuerySet[Site], who: Scope) -> None:
        super().__init__(data, queryset=queryset)
        self.filters["provider"].queryset = providers_in(who)
        self.filters["region"].extra["choices"] = [(region, region) for region in regions_in(who)]
        self.filters["ring"].extra["choices"] = [(ring, ring) for ring in rings_in(who)]

    def filter_queryset(self, queryset: QuerySet[Site]) -> QuerySet[Site]:
        """Apply all; without a choice of life, retired sites are left out."""
        found: QuerySet[Site] = super().filter_queryset(queryset)
        return found if self.form.cleaned_data.get("life") else found.exclude(life=Life.RETIRED)

    def filter_text(self, queryset: QuerySet[Site], name: str, value: str) -> QuerySet[Site]:
        """Each word must be in name, slug, place or address."""
        for word in value.split()[:6]:
            anywhere = (Q(**{f"{field}__icontains": word}) for field in ("name", "slug", "place", "address"))
            queryset = queryset.filter(reduce(or_, anywhere))
        return queryset

    def filter_state(self, queryset: QuerySet[Site], name: str, value: str) -> QuerySet[Site]:
        """Kinds joined by commas, as the overview writes them."""
        return queryset.filter(of_kinds(value.split(",")))

    def filter_identity(self, queryset: QuerySet[Site], name: str, value: str) -> QuerySet[Site]:
        """One of IDENTITIES."""
        return queryset.filter(of_identity(value, now=timezone.now()))

    def filter_life(self, queryset: QuerySet[Site], name: str, value: str) -> QuerySet[Site]:
        """One life, or all of them."""
        return queryset if value == "all" else queryset.filter(life=value)
