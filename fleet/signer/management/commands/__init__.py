"""Management commands of the signer."""
