"""The embedded default: starts PostgreSQL, Redis, the processes of Archipelago and a demo fleet on one machine."""
