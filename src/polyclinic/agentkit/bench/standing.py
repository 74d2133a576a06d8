"""What can be judged before an agent runs: its manifest, its card and its model files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from importlib.resources.abc import Traversable

from polyclinic.agentkit.bench.verdicts import State, Verdict
from polyclinic.agentkit.manifest import Manifest, Weights


def judge_papers(manifest: Manifest, folder: Traversable) -> Iterator[Verdict]:
    """Whether the manifest, which is valid by its form, says what a reader needs, and the card is there."""
    empty = [name for name in ("title", "intended_use", "population") if not getattr(manifest, name).strip()]
    doubled = len({(o.system, o.code) for o in manifest.outputs}) < len(manifest.outputs)
    card = folder / "card.md"
    faults = [f"{name} is empty" for name in empty]
    faults += ["an output is declared twice"] if doubled else []
    faults += ["there is no card.md"] if not card.is_file() or not card.read_text("utf-8").strip() else []
    for fault in faults:
        yield Verdict(rule="manifest", state=State.FAILED, reason=fault, advice="see docs/manifest.md")
    if not faults:
        said = f"{len(manifest.outputs)} outputs declared, stage {manifest.stage.value}"
        yield Verdict(rule="manifest", state=State.PASSED, reason=said)


def judge_weights(manifest: Manifest, read: Callable[[str], bytes]) -> Iterator[Verdict]:
    """Whether `read` finds each model file and its hash is right; `read` raises OSError for what is not there."""
    for name, weights in manifest.weights.items():
        fault = weights_fault(weights, read)
        if fault:
            advice = "put the file below the models folder, or correct file and sha256 in manifest.toml"
            yield Verdict(rule="weights", state=State.FAILED, about=name, reason=fault, advice=advice)
        else:
            said = f"{weights.file}: hash is right"
            yield Verdict(rule="weights", state=State.PASSED, about=name, reason=said)
    if not manifest.weights:
        yield Verdict(rule="weights", state=State.PASSED, reason="it needs none")


def weights_fault(weights: Weights, read: Callable[[str], bytes]) -> str:
    """What is wrong with a model file, or empty."""
    try:
        content = read(weights.file)
    except OSError:
        return f"{weights.file} is not there"
    return "" if hashlib.sha256(content).hexdigest() == weights.sha256 else f"{weights.file} has another hash"
