"""From questions and lessons to rows of token ids with weights, and batches of them."""
