"""The HTTP door: one listener for each dialect, and the private one for operators."""
