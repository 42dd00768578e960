"""What every test needs: float64 in jax, and nothing half-imported."""

from __future__ import annotations

import os

# Two frameworks in one process have two thread pools, which spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if os.environ.get("KERAS_BACKEND") == "jax":
    import jax

    # Without it jax rounds float64 to float32 before a layer sees it.
    jax.config.update("jax_enable_x64", True)
    # The layers here are small: optimizing them takes far longer than running them.
    jax.config.update("jax_disable_most_optimizations", True)
