"""The supervisor: asks the launcher for sandboxes, writes the events, relays terminals and signals.

``launcher`` is the handle of the launcher process, ``session`` one sandbox, ``foreground`` the
loop of `nemoclaw run`, ``terminal`` and ``control`` what that loop serves.
"""
