"""What is read of standards, rings and compliance; within the open scope."""
