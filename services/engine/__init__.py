"""The engine: one process that owns the model, the KV cache and the compute threads.

It takes marked prompts over a unix socket and gives text back. It knows nothing of HTTP, chat templates or users.
"""
