"""Addresses of rollouts."""

from django.urls import path

from fleet.rollouts.views import commands, holding, listing, planning, running

RUNNING = [
    path("rollouts/", listing.rollout_list, name="rollout_list"),
    path("overview/rollouts/", listing.rollout_figure, name="rollout_figure"),
    path("rollouts/<int:pk>/", running.rollout_detail, name="rollout"),
    path("rollouts/<int:pk>/cells.json", running.rollout_cells, name="rollout_cells"),
    path("rollouts/<int:pk>/sites/<slug:slug>/", running.rollout_step, name="rollout_step"),
    path("rollouts/<int:pk>/lift/", holding.rollout_lift, name="rollout_lift"),
    *(path(f"rollouts/<int:pk>/do/{verb}/", view, name=f"rollout_do_{verb}") for verb, view in commands.VIEWS.items()),
    path("sites/<slug:slug>/rollouts/", running.site_rollouts, name="site_rollouts"),
    path("sites/<slug:slug>/hold/", holding.site_hold, name="site_hold"),
    path("sites/<slug:slug>/lift/", holding.site_lift, name="site_lift"),
]

PLANNING = [
    path("rollouts/new/", planning.rollout_plan, name="rollout_plan"),
    path("rollouts/<int:pk>/edit/", planning.rollout_edit, name="rollout_edit"),
]

urlpatterns = [*RUNNING, *PLANNING]
