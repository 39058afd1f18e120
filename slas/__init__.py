"""Contracts, objectives, and how promises are measured."""
