"""Reads of sites, by what they are for."""
