"""Proposals from recorded traffic, each backtested on that traffic: see advise.md."""
