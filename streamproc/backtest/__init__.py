"""Backtest: recorded traffic, replayed in event time through the production topology; what came of it, as files."""
