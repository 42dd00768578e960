"""Training on several devices is training on one."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

PROGRAM = Path(__file__).with_name("two_devices.py")


@pytest.mark.skipif(
    keras.backend.backend() == "torch", reason="Keras leaves several devices to PyTorch there"
)
def test_a_step_on_two_devices_is_the_step_on_one():
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(
        [sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
