"""The route: awaits ports, asks the core, imports no technology."""
