"""What travels: one file for each noun of the field. Every model here has a schema in `schemas/`."""
