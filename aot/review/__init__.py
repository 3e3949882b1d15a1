"""Verdicts of people: where they are kept, which of them counts, what they do to filters, and how far they agree."""
