"""Rollouts: bring many sites to a standard, in waves that must prove themselves."""
