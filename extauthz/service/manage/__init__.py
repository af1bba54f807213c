"""Management of keys, plans and organizations, the same for commands and the admin API."""
