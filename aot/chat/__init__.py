"""Chat-model clients behind one small protocol (`client.ChatModel`): a server, a local model, or a script.

Teachers, tools and judges get theirs from `open_chat` and know nothing of sockets, retries, caches and prices.
"""
