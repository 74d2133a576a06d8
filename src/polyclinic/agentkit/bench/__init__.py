"""What every agent must pass before anybody registers it; pure: processes and limits are app's."""

from polyclinic.agentkit.bench.execute import Execution
from polyclinic.agentkit.bench.guard import Guard
from polyclinic.agentkit.bench.probes import OWN, Kind, Probe, probes
from polyclinic.agentkit.bench.record import End, RunRecord
from polyclinic.agentkit.bench.standing import judge_papers, judge_weights, weights_fault
from polyclinic.agentkit.bench.synthetic import own_case
from polyclinic.agentkit.bench.verdicts import RULES, State, Verdict, judge

__all__ = [
    "OWN",
    "RULES",
    "End",
    "Execution",
    "Guard",
    "Kind",
    "Probe",
    "RunRecord",
    "State",
    "Verdict",
    "judge",
    "judge_papers",
    "judge_weights",
    "own_case",
    "probes",
    "weights_fault",
]
