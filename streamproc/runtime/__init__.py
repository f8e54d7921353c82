"""Runtimes: interpreters of the topology. They share one fold and one contract: commit all or nothing."""
