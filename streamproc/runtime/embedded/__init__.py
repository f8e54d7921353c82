"""The `embedded` runtime: one SQLite file, one thread, one transaction for emits, rows and position."""
