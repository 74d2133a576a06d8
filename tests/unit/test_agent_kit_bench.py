"""The bench of the agent kit: the agent of the template passes, and each rule has an agent that breaks only it."""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from polyclinic.agentkit.bench import OWN, Execution, Kind, Probe, RunRecord, State, Verdict, judge, own_case, probes
from polyclinic.agentkit.bench.changes import CHANGES, NotApplicable
from polyclinic.agentkit.bench.guard import _trespass
from polyclinic.agentkit.bench.standing import judge_papers, judge_weights
from polyclinic.agentkit.case import Case, SilentTools, Tools
from polyclinic.agentkit.manifest import InstalledAgent, Manifest, Weights
from polyclinic.agentkit.outcome import Abstained, Assessed, Mask, MaskLabel, Outcome
from polyclinic.app.agent_bench import run_bench
from polyclinic.app.agent_new import make_agent
from polyclinic.app.agent_sources import agent_source
from polyclinic.core.codes import LUNG
from polyclinic.core.findings import Finding, Region, Source, SourceKind
from polyclinic.dicom.volume import read_volume

NOWHERE = Path("no-models")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstalledAgent]:
    """The agent that `agent new` makes for MR: its study is a small box, quick to make and to judge."""
    folder = tmp_path_factory.mktemp("agents")
    project = make_agent("planted_mr", folder, "MR")
    sys.path.insert(0, str(project))
    yield InstalledAgent(import_module("planted_mr"))
    sys.path.remove(str(project))


class Planted:
    """The agent of the template with one thing changed."""

    def __init__(self, good: InstalledAgent, change: Callable[[Case, Callable[[Case], Outcome]], object]) -> None:
        self.manifest = good.manifest
        self._good = good
        self._change = change

    def run(self, case: Case, tools: Tools) -> Outcome:
        return self._change(case, lambda asked: self._good.run(asked, tools))  # type: ignore[return-value]


def bench(agent: Planted, manifest: Manifest | None = None) -> tuple[Verdict, ...]:
    chosen = manifest or agent.manifest
    execution = Execution(agent, chosen, {OWN: own_case(chosen)}, SilentTools())
    records: dict[Probe, RunRecord] = {}
    for probe in probes((OWN,), quick=False):
        case = execution.prepare(probe)
        records[probe] = case if isinstance(case, RunRecord) else execution.run(case)
    return judge(chosen, records)


def failed(verdicts: tuple[Verdict, ...]) -> set[str]:
    return {verdict.rule for verdict in verdicts if verdict.state is State.FAILED}


def with_finding(outcome: Outcome, **changes: object) -> Outcome:
    if isinstance(outcome, Abstained):
        return outcome
    (finding,) = outcome.findings
    return replace(outcome, findings=(replace(finding, **changes),))  # type: ignore[arg-type]


def scaled(finding: Finding, factor: float) -> dict[str, object]:
    return {"measurements": tuple(replace(m, value=m.value * factor) for m in finding.measurements)}


COUNTER = itertools.count()


def good(case: Case, run: Callable[[Case], Outcome]) -> object:
    return run(case)


def random(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    return with_finding(outcome, confidence=1 / (2 + next(COUNTER)))


def raises_on_no_images(case: Case, run: Callable[[Case], Outcome]) -> object:
    return with_finding(run(case), note=str(case.series[0].datasets[0].Modality))


def judges_everything(case: Case, run: Callable[[Case], Outcome]) -> object:
    series = tuple(replace(one, modality="MR") for one in case.series)
    return run(replace(case, series=series))


def silent(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    return replace(outcome, reason="  ") if isinstance(outcome, Abstained) else outcome


def other_code(case: Case, run: Callable[[Case], Outcome]) -> object:
    return with_finding(run(case), code=LUNG)


def other_agent(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    return replace(outcome, agent=Source(kind=SourceKind.AGENT, id="somebody", version="1.0.0"))


def unknown_unit(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    if isinstance(outcome, Abstained):
        return outcome
    return with_finding(
        outcome, measurements=tuple(replace(m, unit="furlong") for m in outcome.findings[0].measurements)
    )


def too_sure(case: Case, run: Callable[[Case], Outcome]) -> object:
    return with_finding(run(case), confidence=1.2)


def nan(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    return outcome if isinstance(outcome, Abstained) else with_finding(outcome, **scaled(outcome.findings[0], math.nan))


def outside(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    if isinstance(outcome, Abstained):
        return outcome
    image = case.series[0].datasets[0]
    return with_finding(
        outcome, region=Region(frame_of_reference_uid=str(image.FrameOfReferenceUID), centre_mm=(900.0, 0.0, 80.0))
    )


def wrong_mask(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    if isinstance(outcome, Abstained):
        return outcome
    volume = read_volume([_hounsfield(d) for d in case.series[0].datasets])
    voxels = np.full(volume.geometry.shape, 2, dtype=np.uint8)  # value 2 has no label
    mask = Mask(
        id="all",
        title="All",
        geometry=volume.geometry,
        voxels=voxels,
        labels=(MaskLabel(number=1, code=LUNG, title="One"),),
        images=volume.images,
    )
    return replace(outcome, masks=(mask,))


def _hounsfield(image):  # type: ignore[no-untyped-def]
    from polyclinic.agentkit.bench.changes import changed

    return changed(image, RescaleIntercept=0, RescaleSlope=1, RescaleType="HU")


def order_matters(case: Case, run: Callable[[Case], Outcome]) -> object:
    first = case.series[0].datasets[0] if case.series and len(case.series[0].datasets) else None
    return with_finding(run(case), note=str(first.InstanceNumber) if first else "")


def name_matters(case: Case, run: Callable[[Case], Outcome]) -> object:
    first = case.series[0].datasets[0] if case.series and len(case.series[0].datasets) else None
    return with_finding(run(case), confidence=0.5 + 0.01 * (len(str(first.PatientName)) if first else 0))


def breaks_on_small(case: Case, run: Callable[[Case], Outcome]) -> object:
    outcome = run(case)
    if isinstance(outcome, Assessed):
        np.zeros((96, 96)) + np.zeros((case.series[0].datasets[0].Rows, 96))  # raises where images were cropped
    return outcome


def nothing(case: Case, run: Callable[[Case], Outcome]) -> object:
    return None if isinstance(run(case), Assessed) else run(case)


def abstains_always(case: Case, run: Callable[[Case], Outcome]) -> object:
    return run(replace(case, series=()))


@pytest.mark.parametrize(
    ("plant", "rules"),
    [
        (good, set()),
        (nothing, {"answers"}),
        (abstains_always, {"answers"}),
        (random, {"determinism"}),
        (raises_on_no_images, {"abstains"}),
        (judges_everything, {"abstains"}),
        (silent, {"abstains"}),
        (nan, {"values"}),
        (other_code, {"codes"}),
        (other_agent, {"codes"}),
        (unknown_unit, {"codes"}),
        (too_sure, {"codes"}),
        (outside, {"geometry"}),
        (wrong_mask, {"geometry"}),
        (order_matters, {"resistance"}),
        (name_matters, {"resistance"}),
        (breaks_on_small, {"resistance"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_rule_is_broken_alone(
    template: InstalledAgent, plant: Callable[[Case, Callable[[Case], Outcome]], object], rules: set[str]
) -> None:
    verdicts = bench(Planted(template, plant))
    assert failed(verdicts) == rules
    for verdict in verdicts:
        assert verdict.reason
        assert verdict.advice or verdict.state is not State.FAILED


def test_a_run_over_its_limits_is_told(template: InstalledAgent) -> None:
    tight = template.manifest.model_copy(
        update={"resources": template.manifest.resources.model_copy(update={"memory_limit_mb": 1})}
    )
    assert failed(bench(Planted(template, good), tight)) == {"limits"}


BAD = """
import socket, time, pathlib
from {name} import measure
def run(case, tools):
    {what}
    return measure.run(case, tools)
"""


@pytest.mark.parametrize(
    ("what", "rule", "words"),
    [
        ("time.sleep(0 if case.series else 60)", "limits", "longer than its limit"),
        (
            "\n    try: socket.socket()\n    except OSError: pass\n"
            "    try: pathlib.Path('kept.txt').write_text('x')\n    except OSError: pass",
            "quiet",
            "socket",
        ),
    ],
    ids=["too slow", "opens a socket and writes"],
)
def test_in_a_child_process(tmp_path: Path, what: str, rule: str, words: str) -> None:
    """A run that takes too long is killed and the rest goes on; trespasses count although the agent hides them."""
    name = f"bad_{rule}"
    package = make_agent(name, tmp_path, "MR") / name
    (package / "agent.py").rename(package / "measure.py")
    (package / "agent.py").write_text(BAD.format(name=name, what=what), "utf-8")
    manifest = (package / "manifest.toml").read_text("utf-8").replace("time_limit_s = 60", "time_limit_s = 3")
    (package / "manifest.toml").write_text(manifest, "utf-8")
    result = run_bench(agent_source(str(tmp_path / name), NOWHERE), quick=True)
    assert failed(result.verdicts) == {rule}
    told = [v.reason for v in result.verdicts if v.state is State.FAILED]
    assert words in " ".join(told)
    if rule == "quiet":
        assert "it writes kept.txt" in told
    assert not result.passed
    assert len(result.records) == len(probes((OWN,), quick=True))


def test_the_chest_template_passes_the_whole_bench(tmp_path: Path) -> None:
    project = make_agent("mean_of_chest", tmp_path)
    result = run_bench(agent_source(str(project), NOWHERE))
    assert failed(result.verdicts) == set()
    assert [v for v in result.verdicts if v.state is State.NOT_SHOWN] == []
    first = result.records[Probe(study=OWN, kind=Kind.FIRST)]
    assert -150 < first.values[0].value < 150
    assert first.peak_memory_mb > 10


def test_papers(tmp_path: Path) -> None:
    project = make_agent("papers", tmp_path)
    source = agent_source(str(project), NOWHERE)
    from polyclinic.agentkit.manifest import read_manifest

    manifest = read_manifest(source.folder)
    assert failed(tuple(judge_papers(manifest, source.folder))) == set()
    (source.folder / "card.md").unlink()
    assert failed(tuple(judge_papers(manifest, source.folder))) == {"manifest"}
    content = b"network"
    right = Weights(file="a.onnx", sha256=hashlib.sha256(content).hexdigest())
    wanted = manifest.model_copy(update={"weights": {"net": right}})
    assert failed(tuple(judge_weights(wanted, lambda _: content))) == set()
    assert failed(tuple(judge_weights(wanted, lambda _: content + b"!"))) == {"weights"}

    def absent(_name: str) -> bytes:
        raise FileNotFoundError

    assert failed(tuple(judge_weights(wanted, absent))) == {"weights"}
    (source.folder / "manifest.toml").write_text("id = 3", "utf-8")
    assert failed(run_bench(source).verdicts) == {"manifest"}


def test_no_change_touches_the_study_it_is_made_from(template: InstalledAgent) -> None:
    case = own_case(template.manifest)
    before = [d.to_json() for d in case.series[0].datasets]
    for change in CHANGES.values():
        changed = change.apply(case)
        assert [d.to_json() for d in changed.series[0].datasets] != before, change.name
        assert [d.to_json() for d in case.series[0].datasets] == before, change.name


def test_a_change_that_means_nothing_is_not_run(template: InstalledAgent) -> None:
    empty = Case(study_instance_uid="1.2", revision=1, series=())
    for name in ("instances reversed", "broken image", "missing slices"):
        with pytest.raises(NotApplicable):
            CHANGES[name].apply(empty)


@pytest.mark.parametrize(
    ("event", "arguments", "seen"),
    [
        ("open", ("/somewhere/Doe^Jane/a.txt", "w", 0o1 | 0o100), "it writes a.txt"),
        ("open", ("/x/a.txt", "r", 0), ""),
        ("open", ("/x/__pycache__/a.nbi", "wb", 0o1), ""),
        ("open", (3, "w", 0o1), ""),
        ("socket.connect", (None, ("10.0.0.1", 80)), "it opens a socket (connect)"),
        ("subprocess.Popen", ("ls", [], None, None), "it starts a process (subprocess.Popen)"),
        ("os.remove", ("/x/a.txt", -1), "it changes files (os.remove)"),
        ("import", ("os",), ""),
    ],
)
def test_what_the_guard_sees(event: str, arguments: tuple[object, ...], seen: str) -> None:
    assert _trespass(event, arguments) == seen
