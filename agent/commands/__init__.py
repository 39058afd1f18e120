"""The commands of the command line, one module each: `add()` describes it, the rest does it."""
