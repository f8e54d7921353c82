"""`python -m streamproc`: the command line."""

from __future__ import annotations

from streamproc.cli import main

main()
