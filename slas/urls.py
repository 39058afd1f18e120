"""Addresses of SLAs."""

from django.urls import URLPattern, path

from slas.views import (
    budgets,
    contracts,
    contracts_editing,
    disputes,
    incidents,
    reports,
    scorecards,
    upkeep,
    upkeep_asking,
)

urlpatterns: list[URLPattern] = [
    path("slas/", scorecards.scorecards, name="sla_scorecards"),
    path("slas/contracts/", contracts.contract_list, name="sla_contracts"),
    path("slas/contracts/new/", contracts_editing.contract_new, name="sla_contract_new"),
    path("slas/contracts/<slug:slug>/", contracts.contract_detail, name="sla_contract"),
    path("slas/contracts/<slug:slug>/budget/", budgets.contract_budget, name="sla_contract_budget"),
    path("slas/contracts/<slug:slug>/edit/", contracts_editing.contract_edit, name="sla_contract_edit"),
    path("slas/at-risk/", budgets.risk_figure, name="sla_risk"),
    path("slas/sites/<slug:slug>/budget/", budgets.site_budget, name="sla_site_budget"),
    path("slas/maintenance/", upkeep.window_list, name="sla_windows"),
    path("slas/maintenance/new/", upkeep_asking.window_new, name="sla_window_new"),
    path("slas/maintenance/<int:pk>/", upkeep.window_detail, name="sla_window"),
    path("slas/maintenance/<int:pk>/approve/", upkeep.window_approve, name="sla_window_approve"),
    path("slas/maintenance/<int:pk>/refuse/", upkeep.window_refuse, name="sla_window_refuse"),
    path("slas/maintenance/<int:pk>/cancel/", upkeep.window_cancel, name="sla_window_cancel"),
    path("slas/outages/", incidents.outage_list, name="sla_outages"),
    path("slas/outages/export.csv", incidents.outage_export, name="sla_outages_export"),
    path("slas/outages/<int:pk>/", incidents.outage_detail, name="sla_outage"),
    path("slas/outages/<int:pk>/take/", incidents.outage_take, name="sla_outage_take"),
    path("slas/outages/<int:pk>/comment/", incidents.outage_comment, name="sla_outage_comment"),
    path("slas/outages/<int:pk>/correct/", incidents.outage_correct, name="sla_outage_correct"),
    path("slas/outages/<int:pk>/dispute/", disputes.dispute_file, name="sla_dispute_file"),
    path("slas/disputes/", disputes.dispute_list, name="sla_disputes"),
    path("slas/disputes/<int:pk>/", disputes.dispute_detail, name="sla_dispute"),
    path("slas/disputes/<int:pk>/attach/", disputes.dispute_attach, name="sla_dispute_attach"),
    path("slas/disputes/<int:pk>/decide/", disputes.dispute_decide, name="sla_dispute_decide"),
    path("slas/disputes/<int:pk>/withdraw/", disputes.dispute_withdraw, name="sla_dispute_withdraw"),
    path("slas/disputes/<int:pk>/files/<int:number>/", disputes.dispute_download, name="sla_dispute_download"),
    path("sites/<slug:slug>/outages/", incidents.site_outages, name="sla_site_outages"),
    path("slas/reports/", reports.report_list, name="sla_reports"),
    path("slas/reports/make/", reports.report_make, name="sla_report_make"),
    path("slas/reports/slas-verify.pyz", reports.report_verifier, name="sla_report_verifier"),
    path("slas/reports/<int:pk>/", reports.report_detail, name="sla_report"),
    path("slas/reports/<int:pk>/decide/", reports.report_decide, name="sla_report_decide"),
    path("slas/reports/<int:pk>/export.<slug:kind>", reports.report_export, name="sla_report_export"),
    path("slas/reports/<int:pk>/sites/<slug:slug>/", reports.report_site, name="sla_report_site"),
    *(
        path(
            f"slas/reports/<int:pk>/revisions/<int:number>/<slug:slug>/{name}",
            reports.report_file,
            {"kind": kind},
            name=f"sla_report_{kind}",
        )
        for kind, name in (("pdf", "report.pdf"), ("bundle", "bundle.json"))
    ),
    path(
        "slas/reports/<int:pk>/revisions/<int:number>/<slug:slug>/root.pem",
        reports.report_root,
        name="sla_report_root",
    ),
]
