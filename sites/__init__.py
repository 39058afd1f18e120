"""Sites, their providers, polling, and what is known of their state."""
