"""What is read of contracts, outages, maintenance and figures; within the open scope."""
