"""Probes: how the agent looks at what runs at its site. Each does its I/O and says what it found."""
