"""Assembly: settings in, running processes out. No other room imports all the others."""
