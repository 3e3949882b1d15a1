"""Chat models behind a server that speaks the chat-completions API: bodies, failures, retries, calls in flight."""
