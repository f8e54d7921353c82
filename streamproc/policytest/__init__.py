"""Policy tests: alerts, times and expected outcomes as YAML, played through the production topology."""
