"""The same examples in every run, and no verdict by the clock of a busy machine."""

from hypothesis import settings

settings.register_profile("steady", derandomize=True, deadline=None, max_examples=120)
settings.load_profile("steady")
