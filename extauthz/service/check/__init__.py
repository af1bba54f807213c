"""One request, from its question to its decision: pipeline.py is the page to read first."""
