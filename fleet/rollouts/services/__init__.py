"""Writes of rollouts: planning, what people say, and what the engine says."""
