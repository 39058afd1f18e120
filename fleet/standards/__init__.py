"""Standards, the rings that follow them, and compliance: the proof that sites run them."""
