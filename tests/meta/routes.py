"""Every address of the dashboard, and what the sweeps must know to call it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

SITE, PROVIDER, PLAIN, ACCOUNT, MACHINE, API = "site", "provider", "plain", "account", "machine", "api"
STANDARD, RING, WEBHOOK = "standard", "ring", "webhook"
ROLLOUT, HOLD = "rollout", "hold"
WINDOW, CONTRACT = "window", "contract"
OUTAGE, DISPUTE = "outage", "dispute"
REPORT, REPORT_FILE, SCHEDULE = "report", "report_file", "schedule"


@dataclass(frozen=True)
class Route:
    """`about` says what its slug names, if it has one; `methods` are those that it answers. Rollouts have number 1."""

    path: str
    about: str
    methods: tuple[str, ...] = ("GET",)

    def at(self, slug: str = "") -> str:
        """Its address with a slug put in."""
        path = self.path.replace("<int:delivery>", "1").replace(
            "<int:pk>", slug if self.about in (WEBHOOK, OUTAGE, DISPUTE) else "1"
        )
        path = path.replace("<int:number>", "1")
        path = path.replace("<slug:kind>", "csv")
        for name in ("<slug:slug>", "{slug}", "<str:name>"):
            path = path.replace(name, slug)
        return "/" + path

    def __str__(self) -> str:
        return self.path or "(overview)"


GET_POST, POST = ("GET", "POST"), ("POST",)
ROLLOUT_VERBS = (
    *("submit", "approve", "reject", "start"),
    *("pause", "freeze", "resume", "answer", "abort", "roll_back_wave", "roll_back", "reopen_lane"),
)
PAGES = (
    Route("", PLAIN),
    Route("map.json", PLAIN),
    Route("overview/figures/", PLAIN),
    Route("overview/attention/", PLAIN),
    Route("overview/timeline/", PLAIN),
    Route("overview/panel/<slug:slug>/", SITE),
    Route("wall/", PLAIN),
    Route("search/", PLAIN),
    Route("views/keep/", PLAIN, POST),
    Route("views/forget/", PLAIN, POST),
    Route("api/docs", PLAIN),
    Route("sites/", PLAIN),
    Route("sites/bulk/", PLAIN, POST),
    Route("sites/export.csv", PLAIN),
    Route("sites/import/", PLAIN, GET_POST),
    Route("sites/new/", PLAIN, GET_POST),
    Route("sites/places/", PLAIN),
    Route("sites/recovery/", PLAIN),
    Route("sites/waiting/", PLAIN),
    Route("sites/<slug:slug>/", SITE),
    Route("sites/<slug:slug>/edit/", SITE, GET_POST),
    Route("sites/<slug:slug>/life/", SITE, POST),
    Route("sites/<slug:slug>/poll-now/", SITE, POST),
    Route("sites/<slug:slug>/acknowledge/", SITE, POST),
    Route("sites/<slug:slug>/samples.json", SITE),
    Route("sites/<slug:slug>/identity/", SITE),
    Route("sites/<slug:slug>/journal/", SITE),
    Route("sites/<slug:slug>/timeline/", SITE),
    Route("sites/<slug:slug>/desired/", SITE),
    Route("sites/<slug:slug>/desired/card/", SITE),
    Route("sites/<slug:slug>/desired/apply/", SITE, GET_POST),
    Route("sites/<slug:slug>/desired/freeze/", SITE, POST),
    Route("sites/<slug:slug>/desired/thaw/", SITE, POST),
    *(
        Route(f"sites/<slug:slug>/identity/{step}/", SITE, POST)
        for step in ("join", "accept", "reject", "revoke", "freeze", "thaw")
    ),
    Route("sites/<slug:slug>/compliance/", SITE),
    Route("compliance/", PLAIN),
    Route("compliance/history.json", PLAIN),
    Route("compliance/export.csv", PLAIN),
    Route("standards/", PLAIN),
    Route("standards/new/", PLAIN, GET_POST),
    Route("standards/diff/", PLAIN),
    Route("standards/<str:name>/", STANDARD),
    Route("standards/<str:name>/edit/", STANDARD, GET_POST),
    *(Route(f"standards/<str:name>/{step}/", STANDARD, POST) for step in ("publish", "withdraw", "delete")),
    Route("standards/<str:name>/give/", STANDARD, GET_POST),
    Route("rollouts/", PLAIN),
    Route("overview/rollouts/", PLAIN),
    Route("rollouts/new/", PLAIN, GET_POST),
    Route("rollouts/holds/", PLAIN),
    Route("rollouts/holds/new/", PLAIN, GET_POST),
    *(Route(f"rollouts/holds/<int:pk>/{step}/", HOLD, POST) for step in ("lift", "override")),
    Route("rollouts/calendars/", PLAIN),
    Route("rollouts/calendars/<slug:slug>/edit/", PROVIDER, GET_POST),
    Route("rollouts/<int:pk>/", ROLLOUT),
    Route("rollouts/<int:pk>/edit/", ROLLOUT, GET_POST),
    Route("rollouts/<int:pk>/cells.json", ROLLOUT),
    Route("rollouts/<int:pk>/sites/<slug:slug>/", ROLLOUT),
    Route("rollouts/<int:pk>/lift/", ROLLOUT, POST),
    *(Route(f"rollouts/<int:pk>/do/{verb}/", ROLLOUT, GET_POST) for verb in ROLLOUT_VERBS),
    Route("sites/<slug:slug>/rollouts/", SITE),
    Route("sites/<slug:slug>/hold/", SITE, GET_POST),
    Route("sites/<slug:slug>/lift/", SITE, POST),
    Route("slas/", PLAIN),
    Route("slas/trends/", PLAIN),
    Route("slas/contracts/", PLAIN),
    Route("slas/contracts/new/", PLAIN, GET_POST),
    Route("slas/contracts/<slug:slug>/", CONTRACT),
    Route("slas/contracts/<slug:slug>/budget/", CONTRACT),
    Route("slas/contracts/<slug:slug>/edit/", CONTRACT, GET_POST),
    Route("slas/at-risk/", PLAIN),
    Route("slas/sites/<slug:slug>/budget/", SITE),
    Route("slas/maintenance/", PLAIN),
    Route("slas/maintenance/new/", PLAIN, GET_POST),
    Route("slas/maintenance/<int:pk>/", WINDOW),
    *(Route(f"slas/maintenance/<int:pk>/{step}/", WINDOW, POST) for step in ("approve", "refuse", "cancel")),
    Route("slas/reports/", PLAIN),
    Route("slas/reports/make/", PLAIN, POST),
    Route("slas/reports/compare/", PLAIN),
    Route("slas/reports/compare/export.<slug:kind>", PLAIN),
    Route("slas/reports/group/", PLAIN),
    Route("slas/reports/group/export.<slug:kind>", PLAIN),
    Route("slas/reports/providers/<slug:slug>/", PROVIDER),
    Route("slas/reports/providers/<slug:slug>/export.<slug:kind>", PROVIDER),
    Route("slas/reports/schedules/", PLAIN),
    Route("slas/reports/schedules/new/", PLAIN, GET_POST),
    Route("slas/reports/schedules/<int:pk>/", SCHEDULE),
    Route("slas/reports/schedules/<int:pk>/edit/", SCHEDULE, GET_POST),
    *(Route(f"slas/reports/schedules/<int:pk>/{step}/", SCHEDULE, POST) for step in ("switch", "again", "delete")),
    Route("slas/reports/<int:pk>/", REPORT),
    Route("slas/reports/<int:pk>/decide/", REPORT, POST),
    Route("slas/reports/<int:pk>/export.<slug:kind>", REPORT),
    Route("slas/reports/<int:pk>/sites/<slug:slug>/", REPORT),
    Route("slas/reports/slas-verify.pyz", PLAIN),
    *(
        Route(f"slas/reports/<int:pk>/revisions/<int:number>/<slug:slug>/{name}", REPORT_FILE)
        for name in ("report.pdf", "bundle.json", "root.pem")
    ),
    Route("rings/", PLAIN),
    Route("rings/new/", PLAIN, GET_POST),
    Route("rings/count/", PLAIN),
    Route("rings/order/", PLAIN, POST),
    Route("rings/<slug:slug>/", RING, GET_POST),
    Route("rings/<slug:slug>/delete/", RING, POST),
    Route("rings/<slug:slug>/release/", RING, POST),
    Route("webhooks/", PLAIN),
    Route("webhooks/new/", PLAIN, GET_POST),
    Route("webhooks/<int:pk>/", WEBHOOK),
    Route("webhooks/<int:pk>/edit/", WEBHOOK, GET_POST),
    *(Route(f"webhooks/<int:pk>/{step}/", WEBHOOK, POST) for step in ("rotate", "switch", "delete", "test")),
    Route("webhooks/<int:pk>/messages/<int:delivery>/", WEBHOOK),
    Route("webhooks/<int:pk>/messages/<int:delivery>/again/", WEBHOOK, POST),
    Route("slas/outages/", PLAIN),
    Route("slas/outages/export.csv", PLAIN),
    Route("slas/outages/<int:pk>/", OUTAGE),
    *(Route(f"slas/outages/<int:pk>/{step}/", OUTAGE, POST) for step in ("take", "comment", "correct", "dispute")),
    Route("slas/disputes/", PLAIN),
    Route("slas/disputes/<int:pk>/", DISPUTE),
    *(Route(f"slas/disputes/<int:pk>/{step}/", DISPUTE, POST) for step in ("attach", "decide", "withdraw")),
    Route("slas/disputes/<int:pk>/files/<int:number>/", DISPUTE),
    Route("sites/<slug:slug>/outages/", SITE),
    Route("providers/", PLAIN),
    Route("providers/new/", PLAIN, GET_POST),
    Route("providers/<slug:slug>/", PROVIDER),
    Route("providers/<slug:slug>/edit/", PROVIDER, GET_POST),
)
ACCOUNTS = (
    Route("accounts/login/", ACCOUNT, GET_POST),
    Route("accounts/logout/", ACCOUNT, GET_POST),
    Route("accounts/signup/", ACCOUNT, GET_POST),
    Route("accounts/inactive/", ACCOUNT),
    Route("accounts/reauthenticate/", ACCOUNT, GET_POST),
    Route("accounts/password/change/", ACCOUNT, GET_POST),
)
MACHINES = (Route("healthz", MACHINE), Route("readyz", MACHINE), Route("metrics", MACHINE))
# The operations of the API are swept from its own description: tests/fleet/test_api.py, tests/sites/test_access_api.py.
API_ROOT = (Route("api/v1/", API), Route("api/v1/openapi.json", API))


def known_patterns(patterns: Any = None, prefix: str = "") -> Iterator[str]:
    """Every pattern that the resolver has, as one string each."""
    for entry in get_resolver().url_patterns if patterns is None else patterns:
        here = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from known_patterns(entry.url_patterns, here)
        else:
            assert isinstance(entry, URLPattern)
            yield here
