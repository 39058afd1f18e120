"""Tables of contracts, outages, disputes, maintenance, budgets, reports, mails of them, and round trips."""

from slas.models.budgets import Budget, BurnAlert
from slas.models.contracts import Contract, ContractVersion, Segment, SiteTraits
from slas.models.disputes import Adjustment, Dispute, DisputeFile, DisputeStep
from slas.models.events import OutboxEvent
from slas.models.facts import CentreBlind, DueIncidents, Finding, Incident, IncidentNote, IncidentSpan
from slas.models.latency import LatencyDay
from slas.models.mailing import MailDelivery, MailRecipient, MailSchedule
from slas.models.reports import Decision, Report, ReportFile, ReportLine, ReportPart, ReportRevision
from slas.models.scorecards import Scorecard
from slas.models.upkeep import Window, WindowSite
from slas.models.version_sync import SiteSync

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
    "LatencyDay",
    "MailDelivery",
    "MailRecipient",
    "MailSchedule",
    "OutboxEvent",
    "Report",
    "ReportFile",
    "ReportLine",
    "ReportPart",
    "ReportRevision",
    "Scorecard",
    "Segment",
    "SiteSync",
    "SiteTraits",
    "Window",
    "WindowSite",
]
