"""Brings a site to what a signed document says, one safe step at a time, and back when it does not hold."""
