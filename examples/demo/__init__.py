"""A day at a small stationer's: real MCP servers behind all layers, real clients, and a check of every claim.

``python -m examples.demo`` from the root of the checkout; with ``--serve`` the shop stays open, with a status page.
``stack.py`` is the part to copy. Each act is a module with one function ``play``, named in ``__main__``.
"""
