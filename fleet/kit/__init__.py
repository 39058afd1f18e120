"""Bottom layer, a closed list: errors, htmx, live, locks, tenancy, rls, audit, counters, static, logs."""
