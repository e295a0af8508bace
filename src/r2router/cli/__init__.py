"""The command line. Every command is a few lines over the library; nothing heavy is imported before it is needed."""

from r2router.cli.app import main

__all__ = ["main"]
