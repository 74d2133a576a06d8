"""What libraries complain about is not logged with the values they complain about."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
from polyclinic.app.logs import start_logging
start_logging("DEBUG")
from pydicom.dataset import Dataset
dataset = Dataset()
dataset.PatientBirthDate = "Secret"
dataset.PatientID = "Secret" * 20
print(dataset.PatientBirthDate)
"""


def test_a_bad_value_is_not_quoted() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "Secret"
    assert "Secret" not in done.stderr
