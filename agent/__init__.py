"""The program at a site that answers polls; it imports nothing of the server."""

__version__ = "0.1.0"
