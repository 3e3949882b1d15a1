"""An exported student behind HTTP: an OpenAI-compatible server with limits, a queue, a key, figures and a clean end.

`app.build_app` makes the application out of a `Served`; `listening.serve` opens the port. Knows no weights: what writes
is a `ChatModel`, what decides is a `ServedStudent`.
"""
