"""What runs inside the sandbox: stages that `r2router.bench.scoring.sandbox` hands to a bare interpreter, which imports
nothing of ours.

Each module is one stage, with a function `main(job)`. It uses builtin modules only, as long as it can: an interpreter
that imports `re` or `ast` takes twice as long to start.
"""
