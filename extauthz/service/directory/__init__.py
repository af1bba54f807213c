"""Keys and organizations as checks read them: through a process, Redis and PostgreSQL."""
