"""How SLAs read: words, looks and rows of pages."""
