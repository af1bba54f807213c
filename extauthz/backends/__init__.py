"""Where things are kept. Each backend fits `core.ports` and imports neither the others nor its callers."""
