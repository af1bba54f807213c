"""What holds for every test."""

from hypothesis import settings

# The same examples in every run: a failure on somebody's machine is a failure on everybody's.
settings.register_profile("extauthz", derandomize=True, database=None, deadline=None)
settings.load_profile("extauthz")
