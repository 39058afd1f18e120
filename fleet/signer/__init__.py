"""The signer: the only process that reads private keys of the centre."""
