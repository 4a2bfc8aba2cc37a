"""How values become bytes for a store."""

from __future__ import annotations

import pytest
from mcp_cache import JSON


def test_json_is_short_and_readable():
    """No spaces, no escapes: it is read by others, and paid for by the byte."""
    packed = JSON.dumps({"é": [1, (2, None)]})
    assert packed == '{"é":[1,[2,null]]}'.encode()
    assert JSON.loads(packed) == {"é": [1, [2, None]]}


def test_key_that_json_would_make_a_string_is_shown():
    """So that it can be found in the value."""
    with pytest.raises(TypeError, match=r"^keys in JSON are strings, got 7$"):
        JSON.dumps([{"a": ({7: 1},)}])
