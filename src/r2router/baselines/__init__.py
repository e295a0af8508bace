"""The published routers that ours is compared with, as learners behind the same protocol: same tables, embeddings,
costs and figures.

Fitted on the arms of a table with one budget per LLM they are what was published; fitted on all (model, budget) arms
they get what ours gets. Settings are the published ones where they are known; `docs/decisions/0009-baselines.md` says
where ours differ, and why.

| learner | what it is | tokens | source |
| --- | --- | --- | --- |
| `CarrotKNN` | means over the k nearest training queries | means over the same | arXiv 2502.03261 |
| `CarrotLinear` | one least-squares regression per arm | another one | arXiv 2502.03261 |
| `MIRT` | multidimensional item response theory | constant per arm | IRT-Router, arXiv 2506.01048 |
| `NIRT` | neural item response theory | constant per arm | IRT-Router, arXiv 2506.01048 |
| `UniRouter` | soft assignment to k-means clusters, an arm is its means in them | constant per arm | arXiv 2502.08773 |
| `MatrixFactorisation` | bilinear scores learned from which of two arms was better | constant per arm | RouteLLM, arXiv
2406.18665 |
| `Clusters` | means in the few nearest k-means clusters | means in the same | Avengers-Pro, arXiv 2508.12631 |
| `Random` | knows nothing of the query | constant per arm | |

The best fixed arm, the best mixture of fixed arms and the oracle need no forecasts: see `r2router.metrics.score`.
"""

from r2router.baselines.carrot import CarrotKNN, CarrotLinear
from r2router.baselines.chance import Random
from r2router.baselines.clusters import Clusters, UniRouter
from r2router.baselines.factorisation import MatrixFactorisation
from r2router.baselines.irt import MIRT, NIRT

__all__ = ["MIRT", "NIRT", "CarrotKNN", "CarrotLinear", "Clusters", "MatrixFactorisation", "Random", "UniRouter"]
