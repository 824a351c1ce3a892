"""Credentials: the agent has a placeholder, and the secret is put in its place outside.

``sources`` reads secrets, ``placeholders`` makes what the agent sees, and ``vault`` keeps both for
one start; these are on the path of a start, and import next to nothing. ``broker`` is what the gate
asks: ``marks`` finds placeholders in requests, ``injection``, ``sigv4`` and ``oauth2`` put secrets
into them.
"""
