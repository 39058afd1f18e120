"""What changes standards and rings, and the pass that judges sites."""
