"""`python -m r2router`: the same as the command."""

from r2router.cli import main

main(prog_name="r2router")
