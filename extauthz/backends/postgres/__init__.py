"""PostgreSQL: where keys, organizations and plans are kept for good. The only room that imports the driver."""
