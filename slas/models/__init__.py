"""Tables of contracts, outages, maintenance and budgets."""

from slas.models.budgets import Budget, BurnAlert
from slas.models.contracts import Contract, ContractVersion, Segment, SiteTraits
from slas.models.facts import CentreBlind, DueIncidents, Finding, Incident, IncidentNote, IncidentSpan
from slas.models.scorecards import Scorecard
from slas.models.upkeep import Window, WindowSite

__all__ = [
    "Budget",
    "BurnAlert",
    "CentreBlind",
    "Contract",
    "ContractVersion",
    "DueIncidents",
    "Finding",
    "Incident",
    "IncidentNote",
    "IncidentSpan",
    "Scorecard",
    "Segment",
    "SiteTraits",
    "Window",
    "WindowSite",
]
