"""Addresses of SLAs."""

from django.urls import URLPattern, path

from slas.views import contracts, contracts_editing, scorecards, upkeep, upkeep_asking

urlpatterns: list[URLPattern] = [
    path("slas/", scorecards.scorecards, name="sla_scorecards"),
    path("slas/contracts/", contracts.contract_list, name="sla_contracts"),
    path("slas/contracts/new/", contracts_editing.contract_new, name="sla_contract_new"),
    path("slas/contracts/<slug:slug>/", contracts.contract_detail, name="sla_contract"),
    path("slas/contracts/<slug:slug>/edit/", contracts_editing.contract_edit, name="sla_contract_edit"),
    path("slas/maintenance/", upkeep.window_list, name="sla_windows"),
    path("slas/maintenance/new/", upkeep_asking.window_new, name="sla_window_new"),
    path("slas/maintenance/<int:pk>/", upkeep.window_detail, name="sla_window"),
    path("slas/maintenance/<int:pk>/approve/", upkeep.window_approve, name="sla_window_approve"),
    path("slas/maintenance/<int:pk>/refuse/", upkeep.window_refuse, name="sla_window_refuse"),
    path("slas/maintenance/<int:pk>/cancel/", upkeep.window_cancel, name="sla_window_cancel"),
]
