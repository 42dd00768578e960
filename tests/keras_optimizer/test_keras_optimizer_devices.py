"""Training on several devices is training on one."""

import subprocess
import sys
from pathlib import Path

import keras
import pytest

PROGRAM = Path(__file__).with_name("two_jax_devices.py")


@pytest.mark.skipif(
    keras.backend.backend() != "jax",
    reason="DataParallel is for jax; two_replicas.py is the same for TensorFlow",
)
def test_data_parallel_training_is_that_on_one_device():
    done = subprocess.run([sys.executable, PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
