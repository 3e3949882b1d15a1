"""Tools behind which a zero-shot model of transformers stands."""
