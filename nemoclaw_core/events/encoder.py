"""JSON text of plain values, without importing :mod:`json` (8 ms on the path of every start).

The C encoder that :mod:`json` itself uses is driven directly. Output is ASCII, so a log can be
shown on any terminal as it is.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"a {type(value).__name__} cannot be part of an event")


try:
    import _json

    _encode: Any = _json.make_encoder(
        None,  # no table of seen containers: a cycle ends in RecursionError
        _refuse,
        _json.encode_basestring_ascii,
        None,
        ":",
        ",",
        False,
        False,
        False,  # NaN and the infinities are not JSON (RFC 8259 section 6): ValueError
    )

    def encode(value: Any) -> str:
        """JSON text of ``value``: dict, list, tuple, str, int, float, bool, None; no whitespace.

        :raises TypeError: a value of another type.
        :raises ValueError: a float that is not finite.
        """
        return "".join(_encode(value, 0))

except (ImportError, AttributeError, TypeError):
    # An interpreter without the C accelerator, or with another one: slower to start, same text.
    import json

    _encoder = json.JSONEncoder(
        check_circular=False, allow_nan=False, separators=(",", ":"), default=_refuse
    )

    def encode(value: Any) -> str:
        """As above."""
        return _encoder.encode(value)
