"""Spending from limits, and where their counters begin."""
