"""A day at a small stationer's: real MCP servers behind a chain, a real client, and a check of every claim.

``python -m examples.demo`` from the root of the checkout. Each act is a module with one coroutine ``play(stage)``; a
new package joins by writing one and adding it to ``__main__.ACTS``.
"""
