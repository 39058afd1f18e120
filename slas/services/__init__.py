"""Writes of contracts, outages and maintenance, and the passes that derive facts."""
