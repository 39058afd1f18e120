"""The command line of Archipelago: it talks to the API with a token, and needs nothing but Python."""

__version__ = "0.1.0"
