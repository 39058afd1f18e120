"""Every address of the dashboard."""

from django.urls import include, path

from fleet import health, views
from fleet.api import api

urlpatterns = [
    path("", views.overview, name="overview"),
    path("map.json", views.map_snapshot, name="map_snapshot"),
    path("overview/figures/", views.figures, name="figures"),
    path("overview/attention/", views.attention, name="attention"),
    path("overview/timeline/", views.timeline, name="timeline"),
    path("overview/panel/<slug:slug>/", views.site_panel, name="site_panel"),
    path("wall/", views.wall, name="wall"),
    path("search/", views.search, name="search"),
    path("views/keep/", views.view_keep, name="view_keep"),
    path("views/forget/", views.view_forget, name="view_forget"),
    path("api/docs", views.api_docs, {"api": api}, name="api_docs"),
    path("api/v1/", api.urls),
    path("accounts/", include("fleet.people.urls")),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("metrics", health.metrics, name="metrics"),
    path("", include("fleet.rollouts.urls")),
    path("", include("fleet.standards.urls")),
    path("", include("slas.urls")),
    path("", include("sites.urls")),
]

handler400 = "fleet.error_pages.bad_request"
handler403 = "fleet.error_pages.forbidden"
handler404 = "fleet.error_pages.not_found"
handler500 = "fleet.error_pages.server_error"
