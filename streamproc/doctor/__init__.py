"""Looks at everything that a pipeline stands on; for each fault the mend. One function a check, results are values."""
