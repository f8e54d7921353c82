"""The pure heart: records, steps, rows and the fold. No I/O, no clock, no environment."""
