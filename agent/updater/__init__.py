"""`archipelago-updater`: root's process that changes packages of the system, and believes signatures alone."""
