"""Runs programs behind a fence as some user: `python sandbox_user.py FENCE`, one JSON line in, one out. See
`test_sandbox`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from r2router.bench.scoring import sandbox


def main() -> None:
    fence = next(fence for fence in sandbox.FENCES if fence.name == sys.argv[1])
    say({"works": sandbox.why_not(fence) is None, "why": sandbox.why_not(fence), "uid": os.getuid()})
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.monotonic()
        try:
            ran = sandbox._run({"program": asked["program"]}, sandbox.SandboxLimits(**asked.get("limits", {})), fence)
            told = {"finished": ran.finished, "why": ran.why}
        except Exception as error:  # noqa: BLE001  whatever an attack brings about
            told = {"finished": False, "why": f"ESCAPED: {error!r}"}
        told |= {"seconds": time.monotonic() - began, "rss_mb": peak_mb()}
        say(told)


def peak_mb() -> float:
    """The most memory of this very process; `ru_maxrss` begins with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) / 1024


def say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
