"""Every proof in turn, each as its own process; one line of JSON per proof, and exit code 1 when one did not pass."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from fleetloop.cli import BENCHES

MORE = {"sim-fuzz": ("--seeds", "50000")}
"""Where there are hours, more is played than by a proof on its own."""


def main(names: Sequence[str]) -> int:
    """Run the proofs named, or all of them."""
    unknown = sorted(set(names) - set(BENCHES))
    if unknown:
        print(f"no such proof: {', '.join(unknown)}; there are {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    codes = [_run(name) for name in names or BENCHES]
    return 1 if any(codes) else 0


def _run(name: str) -> int:
    print(f"bench {name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    command = [sys.executable, "-m", "fleetloop", "bench", name, *MORE.get(name, ()), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    last = done.stdout.splitlines()[-1] if done.stdout.strip() else "null"
    line = {"bench": name, "exit": done.returncode, "wall_s": round(time.monotonic() - began, 1)}
    print(json.dumps({**line, "figures": json.loads(last)}), flush=True)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
