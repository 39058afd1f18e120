"""Addresses of SLAs."""

from django.urls import URLPattern, path

from slas.views import scorecards

urlpatterns: list[URLPattern] = [
    path("slas/", scorecards.scorecards, name="sla_scorecards"),
]
