"""Reads of rollouts: what the engine sees, and what people may see."""
