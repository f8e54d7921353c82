"""The decisions: one file a stage, one verb a file, each a pure function `(event, rows, now, config) -> Step`."""
