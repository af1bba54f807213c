"""The decision: values and pure functions, standard library only. No clock, loop, socket, log or randomness."""
