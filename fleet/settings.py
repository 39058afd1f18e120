"""All settings, in one file, read through fleet.env."""

from pathlib import Path
from typing import Any

from csp.constants import NONCE, NONE, SELF

from fleet import env

BASE_DIR = env.ROOT
DEBUG = env.flag("DEBUG", default=False)
SECRET_KEY = env.text("SECRET_KEY")
ALLOWED_HOSTS = env.words("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
# Whether browsers reach us through TLS. Only `make run` and tests, which bind loopback, go without.
HTTPS = env.flag("HTTPS", default=True)

INSTALLED_APPS = [
    "fleet.kit",
    "fleet.people",
    "fleet.rollouts",
    "fleet.standards",
    "fleet.gateway",
    "fleet.signer",
    "fleet.stack",
    "sites.apps.SitesConfig",
    "slas.apps.SlasConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "allauth",
    "allauth.account",
    "channels",
    "csp",
    "django_filters",
    "django_htmx",
    "django_tables2",
    "ninja",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    # Pages only (static files are compressed ahead). Django pads them at random, and masks the CSRF token (BREACH).
    "django.middleware.gzip.GZipMiddleware",
    "fleet.middleware.RequestLogMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "fleet.middleware.ApiTokenMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "fleet.middleware.SignInRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "fleet.middleware.ScopeMiddleware",
]

ROOT_URLCONF = "fleet.urls"
ASGI_APPLICATION = "fleet.asgi.application"

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "fleet.context.page_context",
            ],
        },
    },
]

# "default" is the application's role, "owner" migrates and makes partitions. Requests never use "owner".
DATABASES: dict[str, dict[str, Any]] = {
    "default": env.database("DATABASE_URL") | {"TEST": {"MIRROR": "owner"}},
    "owner": env.database("DATABASE_OWNER_URL"),
}
# psycopg keeps planned what fleet.kit.prepared asks for, and nothing because it is sent often.
DATABASES["default"]["OPTIONS"]["prepare_threshold"] = 2**30
# What this process is (web, poller, tick, ...): web shares a pool among its threads, Celery's processes keep one
# connection a thread, so that a poller's temporary table lives as long as it does. All of them look whether a
# connection still lives before they use it: after a crash of the database each dead one would fail somebody.
PROCESS = env.text("ARCHIPELAGO_PROCESS", "")
if PROCESS in {"web", "gateway"}:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 2, "max_size": 24, "timeout": 10}
elif PROCESS == "signer":
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 8, "timeout": 5}
elif PROCESS in {"poller", "tick"}:
    DATABASES["default"] |= {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}
    # Celery itself would close the connection before and after each task; fleet.celery closes it when it is broken.
    CELERY_DB_REUSE_MAX = 2**62
DATABASE_ROUTERS = ["fleet.kit.tenancy.MigrateAsOwner"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Redis: 0 the broker, 1 the channel layer, 2 counters. Losing it loses nothing but latency.
REDIS_COUNTERS_URL = env.redis_url(2)
REDIS_BROKER_URL = env.redis_url(0)
# The cache holds sign-in throttles, which must survive a lost Redis: so it lies in PostgreSQL.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "kit_cache",
        "OPTIONS": {"MAX_ENTRIES": 100_000},  # at its limit it forgets live entries too, throttles among them
    }
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [env.redis_url(1)]},
    }
}

AUTH_USER_MODEL = "people.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "overview"
ACCOUNT_ADAPTER = "fleet.people.adapter.ClosedSignUpAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = None
# Failed sign-ins are counted in fleet.people.adapter, by who guesses; a limit on all sign-ins from an address would
# let one visitor lock out everybody behind it.
ACCOUNT_RATE_LIMITS = {"login": ""}

SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_USE_SESSIONS = False
CSRF_FAILURE_VIEW = "fleet.error_pages.csrf_failure"
# Browsers accept __Host- cookies from http://127.0.0.1 too, so the demo runs with the same cookies as production.
SESSION_COOKIE_NAME = "__Host-session"
CSRF_COOKIE_NAME = "__Host-csrf"
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_SSL_REDIRECT = HTTPS
SECURE_HSTS_SECONDS = 31_536_000 if HTTPS else 0
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
# Whether a proxy of ours stands in front and sets X-Forwarded-Proto; otherwise such headers are ignored.
TRUST_PROXY = env.flag("TRUST_PROXY", default=False)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUST_PROXY else None

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "worker-src": [SELF],
        "manifest-src": [SELF],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = BASE_DIR / "staticfiles"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "fleet.kit.static.HashedStaticStorage"},
}
WHITENOISE_MAX_AGE = 60
WHITENOISE_KEEP_ONLY_HASHED_FILES = True
WHITENOISE_SKIP_COMPRESS_EXTENSIONS = ("jpg", "png", "webp", "gz", "br", "woff2", "map")

LANGUAGE_CODE = "en-gb"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"
DATA_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 12 * 1024 * 1024

DJANGO_TABLES2_TEMPLATE = "tables/table.html"

# Celery -------------------------------------------------------------------------------------------------
CELERY_BROKER_URL = env.broker_url()
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False
CELERY_TASK_DEFAULT_QUEUE = "default"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 10, "socket_connect_timeout": 3, "visibility_timeout": 600}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False
CELERY_TASK_TIME_LIMIT = 600
CELERY_TIMEZONE = "UTC"

# Identity -----------------------------------------------------------------------------------------------
# The fleet's DNS name, in every certificate. It need not resolve, and cannot change once sites have enrolled.
FLEET_NAME = env.dns_name("ARCHIPELAGO_FLEET", "archipelago.internal")
# Where agents call in, as they see it: written into join strings.
GATEWAY_ADDRESS = env.text("ARCHIPELAGO_GATEWAY_ADDRESS", "127.0.0.1:8443")
GATEWAY_ID = env.text("ARCHIPELAGO_GATEWAY_ID", "main")
_STATE = env.text("ARCHIPELAGO_STATE_DIR", str(BASE_DIR / ".state"))
# Where gateways of this machine pass pollers on to the sites that have called in.
GATEWAY_SOCKETS = Path(env.text("ARCHIPELAGO_GATEWAY_SOCKETS", f"{_STATE}/gateways"))
SIGNER_SOCKET = Path(env.text("ARCHIPELAGO_SIGNER_SOCKET", f"{_STATE}/signer.sock"))
SIGNER_SOCKET_MODE = int(env.choice("ARCHIPELAGO_SIGNER_SOCKET_MODE", ("0600", "0660")), 8)
SIGNER_UIDS = env.numbers("ARCHIPELAGO_SIGNER_UIDS")
SIGNER_KEYS = Path(env.text("ARCHIPELAGO_SIGNER_KEYS", f"{_STATE}/keys"))
SIGNER_SITES_PER_S = env.integer("ARCHIPELAGO_SIGNER_SITES_PER_S", 200, least=1, most=100_000)
SIGNER_DOCUMENTS_PER_S = env.integer("ARCHIPELAGO_SIGNER_DOCUMENTS_PER_S", 200, least=1, most=100_000)
SIGNER_DOCUMENTS_BURST = env.integer("ARCHIPELAGO_SIGNER_DOCUMENTS_BURST", 20_000, least=500, most=1_000_000)
SIGNER_SITES_BURST = env.integer("ARCHIPELAGO_SIGNER_SITES_BURST", 20_000, least=500, most=1_000_000)

# Polling ------------------------------------------------------------------------------------------------
# Networks that would be refused but may be dialled after all: the demo's agents live in 127.64.0.0/10.
AGENT_NETWORKS_ALLOWED = env.words("ARCHIPELAGO_AGENT_NETWORKS_ALLOWED")
# Our own services; a site's address may never lead there.
OWN_HOSTS = sorted(
    {str(DATABASES["default"]["HOST"]), str(DATABASES["owner"]["HOST"]), *env.words("ARCHIPELAGO_OWN_HOSTS")} - {""}
)
# Webhooks go to public addresses; networks that may be called although they would be refused, and whether http to this
# very machine is taken, for development.
WEBHOOK_NETWORKS_ALLOWED = env.words("ARCHIPELAGO_WEBHOOK_NETWORKS_ALLOWED")
WEBHOOK_HTTP_LOOPBACK = env.flag("ARCHIPELAGO_WEBHOOK_HTTP_LOOPBACK", default=False)
# Who says which rollout was at work where an outage began: contracts lie below rollouts, and do not know them.
OUTAGES_CAUSED_BY = "fleet.rollouts.selectors.causes.caused_by_rollouts"
# Who says which standards were offered to sites, when they were sent and proven, and whose the time between was.
STANDARDS_OFFERED_BY = "fleet.rollouts.selectors.offers.offers_of"
# Who takes the outages of a site whose trouble is taken: sites lie below contracts, and do not know them.
OUTAGES_TAKEN_BY = "slas.services.incidents.take_outages"
# Which task is started when polls bring news of documents: sites lie below rollouts, and do not know them.
DOCUMENTS_WATCHED_BY = "fleet.rollouts.tasks.tick_rollouts"
# So much of the fleet, of two providers at least, must vanish within one minute to say that the centre is blind.
CENTRE_BLIND_PERCENT = env.integer("CENTRE_BLIND_PERCENT", 50, least=1, most=100)
# A report of SLAs is final so long after its period has ended: until then the journals of sites that were cut off come.
REPORT_GRACE_H = env.integer("REPORT_GRACE_H", 72, least=0, most=8784)
# Who may be mailed reports, and of which side: contracts lie below people, and do not know them.
REPORT_READERS_FOUND_BY = "fleet.people.selectors.report_readers"
# Mail goes to one SMTP server; where none is named, into files below the state folder, for development.
EMAIL_HOST = env.text("SMTP_HOST", "")
EMAIL_PORT = env.integer("SMTP_PORT", 587, least=1, most=65535)
EMAIL_HOST_USER = env.text("SMTP_USER", "")
EMAIL_HOST_PASSWORD = env.text("SMTP_PASSWORD", "")
_SMTP_TLS = env.choice("SMTP_TLS", ("starttls", "tls", "none"))
EMAIL_USE_TLS, EMAIL_USE_SSL = _SMTP_TLS == "starttls", _SMTP_TLS == "tls"
EMAIL_TIMEOUT = 20
EMAIL_FILE_PATH = f"{_STATE}/mail"
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if EMAIL_HOST else 'filebased'}.EmailBackend"
DEFAULT_FROM_EMAIL = env.mailbox("MAIL_FROM", f"Archipelago <archipelago@{FLEET_NAME}>")
# Where people open the dashboard, for links that leave it.
DASHBOARD_URL = env.text("ARCHIPELAGO_DASHBOARD_URL", "").rstrip("/")
RAW_SAMPLE_DAYS = env.integer("RAW_SAMPLE_DAYS", 14, least=1, most=400)
ROLLUP_5M_DAYS = env.integer("ROLLUP_5M_DAYS", 90, least=2, most=1000)
ROLLUP_1H_DAYS = env.integer("ROLLUP_1H_DAYS", 1095, least=30, most=4000)
METRICS_TOKEN = env.text("METRICS_TOKEN", "")
MAP_TILES_URL = env.text("MAP_TILES_URL", "")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "fleet.kit.logs.LineFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": env.text("LOG_LEVEL", "INFO")},
    "loggers": {
        "django.server": {"level": "WARNING"},
        "celery.worker.strategy": {"level": "WARNING"},
        "celery.app.trace": {"level": "WARNING"},
        "celery.beat": {"level": "WARNING"},
        "kombu": {"level": "WARNING"},
        "uvicorn.access": {"level": "WARNING"},
    },
}
