"""The attackers: standard library only, the same inside a sandbox and outside of one."""
