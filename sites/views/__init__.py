"""Screens of sites and providers. Thin: objects come from selectors, changes go through services."""
