"""One file for each family of proxies."""
