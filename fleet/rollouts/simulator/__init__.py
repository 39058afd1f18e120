"""Plays a rollout through with a virtual clock: the same engine, a database in memory, made-up sites. Pure.

`database` stands for PostgreSQL: it keeps counters and due times, and carries out actions behind their guards. `world`
stands for the sites: what they do with a document, and when they are silent. `run` lets time pass.
"""

from fleet.rollouts.simulator.database import Database
from fleet.rollouts.simulator.run import Report, simulate
from fleet.rollouts.simulator.world import Behaviour, World

__all__ = ["Behaviour", "Database", "Report", "World", "simulate"]
