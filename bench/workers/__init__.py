"""Small programs that drive one Python API each, in a process of their own.

``with_X.py once WORK ARGV...`` is the shortest script that a user of X would write.
``with_X.py serve WORK`` answers the requests of :mod:`bench.workers.serve`.

They run under the Python that has X installed, so they import the standard library and X only.
"""
