"""Whole runs of `polyclinic analyse` against `plain_chest_ct.py`, one after the other, in the same minutes.

For each study: wall time and peak memory of the whole process, the agent's own steps, and the ratio to the peer.
Usage: python benchmarks/analyse.py [--runs 3] [--skip-peer] [FOLDER ...]. Without folders: the synthetic
512 x 512 x 300 chest CT, and ../shared/data/ct/lidc-0063 where it lies beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def synthetic(folder: Path) -> Path:
    """Write the synthetic 300-slice study once.

    In a process of its own: a child's peak memory counts from its fork, so this process must stay small.
    """
    target = folder / "synthetic-512x512x300"
    program = (
        "import sys, pathlib; from polyclinic.agentkit import phantom as p;"
        "p.write_phantom(p.make_chest_phantom(p.ChestPhantom(seed=1)), pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(target)], check=True)
    return target


def run(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of the command and what it waited for."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command[0]} ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def steps(out: Path) -> str:
    document = json.loads((out / "findings.json").read_text("utf-8"))
    return "; ".join(f"{name} {seconds:.2f}" for r in document["runs"] for name, seconds in r["seconds"])


def measure(study: Path, runs: int, peer: bool, scratch: Path) -> None:
    slices = sum(1 for _ in study.rglob("*.dcm"))
    ours: list[tuple[float, float]] = []
    theirs: list[tuple[float, float]] = []
    for number in range(runs):
        out = scratch / f"{study.name}-{number}"
        ours.append(run([sys.executable, "-m", "polyclinic", "analyse", str(study), "--out", str(out)]))
        if peer:
            theirs.append(run([sys.executable, str(ROOT / "benchmarks" / "plain_chest_ct.py"), str(study)]))
    wall, memory = (statistics.median(values) for values in zip(*ours, strict=True))
    spread = f"{min(w for w, _ in ours):.1f} to {max(w for w, _ in ours):.1f}"
    print(f"{study.name}: {slices} slices, {runs} runs")
    print(f"  polyclinic analyse    {wall:6.1f} s ({spread}), peak {memory:5.0f} MB")
    print(f"  agent's steps, s      {steps(scratch / f'{study.name}-{runs - 1}')}")
    if theirs:
        peer_wall, peer_memory = (statistics.median(values) for values in zip(*theirs, strict=True))
        ratios = sorted(b / a for (a, _), (b, _) in zip(ours, theirs, strict=True))
        print(f"  plain scipy           {peer_wall:6.1f} s, peak {peer_memory:5.0f} MB")
        print(f"  ratio plain / ours    {statistics.median(ratios):6.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--skip-peer", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        studies = options.folders
        if not studies:
            real = ROOT.parent / "shared" / "data" / "ct" / "lidc-0063"
            studies = [synthetic(scratch), *([real] if real.is_dir() else [])]
        for study in studies:
            measure(study, options.runs, not options.skip_peer, scratch)


if __name__ == "__main__":
    main()
