"""extauthz: API keys, permissions, rate limits and quotas for HTTP APIs behind Envoy or nginx."""
