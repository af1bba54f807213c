"""Keys, plans and organizations as people manage them, the same for every way in."""
