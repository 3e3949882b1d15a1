"""How a chain of thought is written: notation, sentences, what tools found, lines and equations of a text chain."""
