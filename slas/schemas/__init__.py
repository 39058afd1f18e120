"""What the API of SLAs takes and answers."""
