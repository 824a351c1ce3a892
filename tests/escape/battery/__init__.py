"""Attempts to get out of a sandbox, one function each, in five classes.

``files``, ``processes``, ``kernel``, ``network`` and ``control``. Every function does the whole
attack itself and says what it got; how it is judged is written in ``registry.Attempt``.
"""
