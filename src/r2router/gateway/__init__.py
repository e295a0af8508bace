"""The gateway: an HTTP server that speaks three LLM wire formats, chooses an arm for each request, and relays.

Needs the `[serve]` extra.
"""
