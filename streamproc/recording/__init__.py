"""Recordings: raw traffic as compressed lines that backtest reads, private values as stable pseudonyms."""
