"""One module a benchmark: ``measure(field, arena, runs) -> Result``."""
