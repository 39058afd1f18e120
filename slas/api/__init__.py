"""API operations of SLAs."""
