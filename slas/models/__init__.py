"""Tables of contracts, outages, disputes, maintenance, budgets, reports and mails of them."""

from slas.models.budgets import Budget, BurnAlert
from slas.models.contracts import Contract, ContractVersion, Segment, SiteTraits
from slas.models.disputes import Adjustment, Dispute, DisputeFile, DisputeStep
from slas.models.events import OutboxEvent
from slas.models.facts import CentreBlind, DueIncidents, Finding, Incident, IncidentNote, IncidentSpan
from slas.models.mailing import MailDelivery, MailRecipient, MailSchedule
from slas.models.reports import Decision, Report, ReportPart, ReportRevision
from slas.models.scorecards import Scorecard
from slas.models.upkeep import Window, WindowSite

__all__ = [
    "Adjustment",
    "Budget",
    "BurnAlert",
    "CentreBlind",
    "Contract",
    "ContractVersion",
    "Decision",
    "Dispute",
    "DisputeFile",
    "DisputeStep",
    "DueIncidents",
    "Finding",
    "Incident",
    "IncidentNote",
    "IncidentSpan",
    "MailDelivery",
    "MailRecipient",
    "MailSchedule",
    "OutboxEvent",
    "Report",
    "ReportPart",
    "ReportRevision",
    "Scorecard",
    "Segment",
    "SiteTraits",
    "Window",
    "WindowSite",
]
