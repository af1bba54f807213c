"""The embedded stack: real servers from wheels, on loopback. For trying out, and for the tests."""
