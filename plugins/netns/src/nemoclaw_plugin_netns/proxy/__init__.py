"""What the agent's connections speak: TLS, HTTP, CONNECT, SOCKS."""
