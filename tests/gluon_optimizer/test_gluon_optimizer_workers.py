"""`DOConvTrainer` in several processes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from gluon_worker import trained

import do_conv

WORKER = Path(__file__).parents[1] / "support" / "gluon_worker.py"


def test_two_workers_give_what_one_gives(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        **os.environ,
        "PYTHONPATH": str(Path(do_conv.__file__).parents[1]),
        "DMLC_PS_ROOT_URI": "127.0.0.1",
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_SERVER": "1",
        "DMLC_NUM_WORKER": "2",
    }
    command = [sys.executable, str(WORKER), str(tmp_path / "{}.npz")]
    processes = [
        subprocess.Popen(command, env={**settings, "DMLC_ROLE": role})
        for role in ("scheduler", "server", "worker", "worker")
    ]
    try:
        assert [process.wait(120) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
    expected = trained(None, 0, 1)
    one, other = (dict(np.load(tmp_path / f"{rank}.npz")) for rank in range(2))
    assert set(one) == set(other) == set(expected)
    for name, value in expected.items():
        assert np.array_equal(one[name], other[name])
        # MXNet's server sums in float32, from the second step on.
        np.testing.assert_allclose(one[name], value, rtol=0, atol=1e-6)
