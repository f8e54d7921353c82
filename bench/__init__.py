"""Measurements: each file answers one question, in ratios within one run. `python -m bench NAME ...` runs them."""
