"""Users, roles, memberships, API tokens."""
