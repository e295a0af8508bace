"""`python -m r2router.cli` is the command `r2router`."""

from r2router.cli import main

main(prog_name="r2router")
