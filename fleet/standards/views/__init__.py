"""Screens of standards, rings and compliance."""
