"""What a run will take, reckoned from its config alone: shapes of models, tokens, memory, work; loads no weights."""
