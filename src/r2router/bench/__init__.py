"""R2-Bench: collecting what real LLMs answer under budgets, and what those answers are worth.

suite     what is asked (`Query`, `Suite`) and how an answer is judged (`Score`, `Scorer`)
controls  how a budget is put into a request
plan      which cells are to be asked, and what that will cost
journal   what was answered, one record per call, safe against being killed
collect   the work itself
adaptive  choosing what to ask within a sum; rounds: collecting by it; replay: what it would have bought on a full table
engine    where calls are made: in this process, or on Ray
"""
