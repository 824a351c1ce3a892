"""Traffic that the egress benchmark makes: servers, and clients that run inside of sandboxes."""
