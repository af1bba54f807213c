"""asyncio primitives that import nothing of extauthz: a circuit breaker, batches, single flights, bounded waits."""
