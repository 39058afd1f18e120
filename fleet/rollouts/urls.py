"""Addresses of rollouts and webhooks."""

from django.urls import path

from fleet.rollouts.views import calendars, commands, holding, holds, listing, planning, running, webhooks

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

WEBHOOKS = [
    path("webhooks/", webhooks.webhook_list, name="webhook_list"),
    path("webhooks/new/", webhooks.webhook_create, name="webhook_create"),
    path("webhooks/<int:pk>/", webhooks.webhook_detail, name="webhook_detail"),
    path("webhooks/<int:pk>/edit/", webhooks.webhook_edit, name="webhook_edit"),
    path("webhooks/<int:pk>/rotate/", webhooks.webhook_rotate, name="webhook_rotate"),
    path("webhooks/<int:pk>/switch/", webhooks.webhook_switch, name="webhook_switch"),
    path("webhooks/<int:pk>/delete/", webhooks.webhook_delete, name="webhook_delete"),
    path("webhooks/<int:pk>/test/", webhooks.webhook_test, name="webhook_test"),
    path("webhooks/<int:pk>/messages/<int:delivery>/", webhooks.webhook_message, name="webhook_message"),
    path("webhooks/<int:pk>/messages/<int:delivery>/again/", webhooks.webhook_redeliver, name="webhook_redeliver"),
]

PLANNING = [
    path("rollouts/new/", planning.rollout_plan, name="rollout_plan"),
    path("rollouts/<int:pk>/edit/", planning.rollout_edit, name="rollout_edit"),
    path("rollouts/holds/", holds.hold_list, name="hold_list"),
    path("rollouts/holds/new/", holds.hold_new, name="hold_new"),
    path("rollouts/holds/<int:pk>/lift/", holds.hold_lift, name="hold_lift"),
    path("rollouts/holds/<int:pk>/override/", holds.hold_override, name="hold_override"),
    path("rollouts/calendars/", calendars.calendar_page, name="calendars"),
    path("rollouts/calendars/<slug:slug>/edit/", calendars.calendar_edit, name="calendar_edit"),
]

urlpatterns = [*RUNNING, *PLANNING, *WEBHOOKS]
