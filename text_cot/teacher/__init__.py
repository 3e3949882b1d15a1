"""Teachers that write chains of thought for text problems."""
