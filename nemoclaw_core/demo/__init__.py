"""`nemoclaw demo`: a scripted agent that does its work, and then tries to get out.

``agent`` runs inside the sandbox and is a program of its own: standard library only, any Python
from 3.8 on. ``stage`` makes the project, the home and the targets that it is let loose on.
``table`` says what stopped each attempt.
"""
