"""Serve a GGUF model on loopback with llama.cpp, for tests: `python tests/serve_gguf.py FILE PORT`. Needs the xllamacpp
package.
"""

from __future__ import annotations

import signal
import sys

import xllamacpp


def main(path: str, port: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.n_parallel, params.n_ctx = 1, 1024
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.hostnames, params.port = ["127.0.0.1"], int(port)
    params.use_jinja = True
    params.kv_unified = False
    server = xllamacpp.Server(params)  # lives as long as it is held
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    main(*sys.argv[1:])
