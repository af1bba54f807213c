"""Redis: the shared cache and the limits. The only room that imports the client library."""
