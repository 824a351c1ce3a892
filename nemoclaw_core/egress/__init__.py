"""The gate's decisions: where an agent may connect, and how what is allowed is reached.

=============  =================================================================================
``hosts``      one spelling for each host, whatever an agent writes
``addresses``  which addresses are not the public internet, and what a rule has to say for them
``paths``      one spelling for each request path, and every reading that a server may have of it
``rules``      a network policy compiled: is this connection, is this request allowed
``dial``       outside: look a name up, check each address, connect to what was checked
=============  =================================================================================

All but ``dial`` are pure: no socket, no file, no clock.
"""
