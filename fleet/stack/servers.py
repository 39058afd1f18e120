"""PostgreSQL and Redis for one life of the stack: our own, or those that the environment names."""

from dataclasses import dataclass

from fleet.stack.console import Console
from fleet.stack.embedded import database_urls
from fleet.stack.options import External
from fleet.stack.postgres import Cluster
from fleet.stack.provision import Plan, provision
from fleet.stack.redis import Broker
from fleet.stack.state import State
from fleet.stack.supervisor import Supervisor

POSTGRES_STAGE, REDIS_STAGE = 0, 1  # the order of the end: after everything else, PostgreSQL last


@dataclass(frozen=True)
class Servers:
    """URLs of the servers that are up and provisioned."""

    database: Plan
    redis_url: str


def start_servers(state: State, external: External, supervisor: Supervisor, console: Console) -> Servers:
    """Start what `external` does not name, wait until it answers, and provision the database. Raises StackError."""
    cluster, broker = Cluster(state), Broker(state)
    database = None if external.app else supervisor.start("postgres", cluster.prepare, stage=POSTGRES_STAGE)
    redis = None if external.redis else supervisor.start("redis", broker.prepare, stage=REDIS_STAGE)
    if redis and redis.process:
        broker.wait_ready(redis.process, redis.output)
    if database and database.process:
        cluster.wait_ready(database.process, database.output)
    if external.app and external.owner:
        plan = Plan(app=external.app, owner=external.owner, admin=external.admin or external.owner)
    else:
        plan = database_urls(cluster)
    for line in provision(plan):
        console.say(line, "provision")
    return Servers(database=plan, redis_url=external.redis or broker.url)
