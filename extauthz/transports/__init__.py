"""Doors: bytes to values and back. They know the core and the service, nothing else."""
