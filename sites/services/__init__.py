"""Writes of sites: one module a noun."""
