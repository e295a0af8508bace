"""How good are decisions: curves over all trade-offs, areas, intervals, and calibration to a target."""
