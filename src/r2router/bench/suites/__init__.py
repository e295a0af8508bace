"""Suites of queries by name: `load_suite("mmlu-pro:physics")`."""

from r2router.bench.suites.registry import SUITES, check_options, load_queries, load_suite, whole_number

__all__ = ["SUITES", "check_options", "load_queries", "load_suite", "whole_number"]
