"""Assembly: settings in, running processes out. It alone knows every room."""
