"""The route: awaits ports, asks the core, knows no technology."""
