"""Traces: spans of what was done, made outside the fold, and their way to a collector."""
