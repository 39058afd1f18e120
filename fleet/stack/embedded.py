"""The database URLs of the embedded PostgreSQL."""

from urllib.parse import quote, urlencode

from fleet.stack.postgres import Cluster
from fleet.stack.provision import Plan

DATABASE = "archipelago"
APP_ROLE = "archipelago_app"
OWNER_ROLE = "archipelago_owner"


def database_urls(cluster: Cluster) -> Plan:
    """URLs of the application's and the owner's role on `cluster`, and of its superuser to make them with."""

    def url(role: str, secret: str) -> str:
        password = quote(cluster.state.secret(secret), safe="")
        return f"postgresql://{role}:{password}@/{DATABASE}?{urlencode({'host': str(cluster.socket_folder)})}"

    return Plan(
        app=url(APP_ROLE, "app_password"),
        owner=url(OWNER_ROLE, "owner_password"),
        admin=cluster.conninfo(),
    )
