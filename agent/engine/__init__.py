"""The site's container engine, Docker or Podman, by the Engine API at its unix socket: what runs, and changing it."""
