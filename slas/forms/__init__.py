"""Forms of SLAs."""
