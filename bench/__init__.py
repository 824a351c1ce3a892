"""Benchmarks of nemoclaw against other sandboxes. Run by hand, never by the tests."""
