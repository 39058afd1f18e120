"""What a report says, as pure data: written down, read again, compared with the one before."""
