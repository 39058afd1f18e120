"""Addresses of sites and providers."""

from django.urls import path

from sites.views import applying, desired, identity, importing, journal, listing, providers, site, timeline, waiting

urlpatterns = [
    path("sites/", listing.site_list, name="site_list"),
    path("sites/bulk/", listing.site_bulk, name="site_bulk"),
    path("sites/export.csv", listing.site_export, name="site_export"),
    path("sites/import/", importing.site_import, name="site_import"),
    path("sites/new/", site.site_create, name="site_create"),
    path("sites/places/", site.place_search, name="place_search"),
    path("sites/recovery/", desired.recovery, name="site_recovery"),
    path("sites/waiting/", waiting.waiting_room, name="waiting_room"),
    path("sites/<slug:slug>/", site.site_detail, name="site_detail"),
    path("sites/<slug:slug>/edit/", site.site_edit, name="site_edit"),
    path("sites/<slug:slug>/life/", site.site_life, name="site_life"),
    path("sites/<slug:slug>/poll-now/", site.site_poll_now, name="site_poll_now"),
    path("sites/<slug:slug>/acknowledge/", site.site_acknowledge, name="site_acknowledge"),
    path("sites/<slug:slug>/identity/", identity.site_identity, name="site_identity"),
    path("sites/<slug:slug>/identity/join/", identity.site_join, name="site_join"),
    path("sites/<slug:slug>/identity/accept/", identity.site_accept, name="site_accept"),
    path("sites/<slug:slug>/identity/reject/", identity.site_reject, name="site_reject"),
    path("sites/<slug:slug>/identity/revoke/", identity.site_revoke, name="site_revoke"),
    path("sites/<slug:slug>/identity/freeze/", identity.site_freeze, name="site_freeze"),
    path("sites/<slug:slug>/identity/thaw/", identity.site_thaw, name="site_thaw"),
    path("sites/<slug:slug>/desired/", desired.site_desired, name="site_desired"),
    path("sites/<slug:slug>/desired/card/", desired.site_desired_card, name="site_desired_card"),
    path("sites/<slug:slug>/desired/apply/", applying.site_desired_apply, name="site_desired_apply"),
    path("sites/<slug:slug>/desired/freeze/", desired.site_desired_freeze, name="site_desired_freeze"),
    path("sites/<slug:slug>/desired/thaw/", desired.site_desired_thaw, name="site_desired_thaw"),
    path("sites/<slug:slug>/journal/", journal.site_journal, name="site_journal"),
    path("sites/<slug:slug>/timeline/", timeline.site_timeline, name="site_timeline"),
    path("sites/<slug:slug>/samples.json", site.site_samples, name="site_samples"),
    path("providers/", providers.provider_list, name="provider_list"),
    path("providers/new/", providers.provider_create, name="provider_create"),
    path("providers/<slug:slug>/", providers.provider_detail, name="provider_detail"),
    path("providers/<slug:slug>/edit/", providers.provider_edit, name="provider_edit"),
]
