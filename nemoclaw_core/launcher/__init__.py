"""The launcher: a small interpreter of seal operations that becomes the agent.

Nothing here imports anything outside the standard library, and no plugin code runs here. Read in
this order: ``wire`` (how the supervisor talks to it), ``server`` (the launcher process),
``init`` (pid 1 of a sandbox: its seal), ``commands`` (what it does then), ``operations`` (what each
seal operation does), ``mounts`` and ``tree`` (the view), ``kernel`` and ``rights`` (the system
calls).

The private modules ``_socket`` and ``_signal`` are used in place of ``socket`` and ``signal``,
whose enum classes cost 10 ms to import, a third of what a whole start may take.
"""
