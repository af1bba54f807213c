"""The private REST API: JSON to the services that manage keys, plans and organizations, and back."""
