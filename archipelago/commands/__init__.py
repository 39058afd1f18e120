"""The commands, one module each or a few that belong together: `add()` describes them, the rest does them."""
