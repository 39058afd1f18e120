"""What a report is made from: the real host, or a simulated site."""
