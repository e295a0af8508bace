#!/bin/sh
# Curves of your own local models: make questions, ask both models under three budgets, train a router, look at the curves.
# Needs r2router[bench] on PATH, and Ollama with the two models of pool.toml:  ollama pull qwen2.5:0.5b && ollama pull qwen2.5:7b
set -e
r2router suite "reasoning-gym:basic_arithmetic,chain_sum?size=${SIZE:-30}&seed=7" --out questions.jsonl
r2router collect --suite questions.jsonl --pool pool.toml --out run --max-spend 1 --yes
r2router compact run
r2router train run/outcomes.parquet --pool pool.toml --out router
r2router curves --router router "What is 12 + 34 - 5?" --html curves.html
