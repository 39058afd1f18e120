"""Addresses of standards, rings and compliance."""

from django.urls import path

from fleet.standards.views import compliance, editing, rings, standards

urlpatterns = [
    path("compliance/", compliance.compliance_page, name="compliance"),
    path("compliance/history.json", compliance.compliance_history, name="compliance_history"),
    path("compliance/export.csv", compliance.compliance_export, name="compliance_export"),
    path("sites/<slug:slug>/compliance/", compliance.site_compliance, name="site_compliance"),
    path("standards/", standards.standard_list, name="standard_list"),
    path("standards/new/", editing.standard_create, name="standard_create"),
    path("standards/diff/", standards.standard_diff, name="standard_diff"),
    path("standards/<str:name>/", standards.standard_detail, name="standard_detail"),
    path("standards/<str:name>/edit/", editing.standard_edit, name="standard_edit"),
    path("standards/<str:name>/publish/", standards.standard_publish, name="standard_publish"),
    path("standards/<str:name>/withdraw/", standards.standard_withdraw, name="standard_withdraw"),
    path("standards/<str:name>/delete/", standards.standard_delete, name="standard_delete"),
    path("standards/<str:name>/give/", standards.standard_give, name="standard_give"),
    path("rings/", rings.ring_list, name="ring_list"),
    path("rings/new/", rings.ring_create, name="ring_create"),
    path("rings/count/", rings.ring_count, name="ring_count"),
    path("rings/order/", rings.ring_order, name="ring_order"),
    path("rings/<slug:slug>/", rings.ring_edit, name="ring_edit"),
    path("rings/<slug:slug>/delete/", rings.ring_delete, name="ring_delete"),
    path("rings/<slug:slug>/release/", rings.ring_release, name="ring_release"),
]
