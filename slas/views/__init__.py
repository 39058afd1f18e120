"""Pages of SLAs."""
