"""Pictures of the dashboards for the docs, drawn from the answers of a real Prometheus and PostgreSQL."""
