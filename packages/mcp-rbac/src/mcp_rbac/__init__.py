"""One sentence: what it does for the caller; it becomes the description on PyPI."""

from __future__ import annotations

__version__ = "0.1.0"

__all__: list[str] = []
