"""The event log: what nemoclaw did and decided, as OCSF records in a hash chain (docs/events.md).

``EventLog`` writes it, ``ocsf`` builds the records, ``verify`` checks the chain, ``human`` shows a
record to a person, ``bus`` hands records to plugins. Only the first two are on the path of every
start; nothing is imported here so that nobody pays for the others.
"""
