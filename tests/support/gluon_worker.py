"""A process of distributed training with `DOConvTrainer`; its role is in the environment."""

import os
import sys

import do_conv.gluon  # noqa: F401 - before mxnet, which reads names that this module restores

# isort: split
import mxnet as mx
import numpy as np
from gluon_twins import SGD, backward, batches, first, network, values

from do_conv.gluon import DOConvTrainer


def trained(store, rank, workers):
    """What a worker has learned from its share of the batches; its start is its own."""
    net = network()
    net[1]._kwargs["use_global_stats"] = True  # batches are divided
    mx.random.seed(rank)
    net[3].weight.set_data(mx.nd.random.normal(shape=(8, 4, 1, 3), dtype="float64"))
    trainer = DOConvTrainer(net, "sgd", SGD, kvstore=store, depthwise_init="he")
    for seed in (1, 2):
        for x in batches(net, steps=4, seed=seed):
            backward(net, x[rank::workers])
            trainer.step(4)
        mx.random.seed(rank)
        trainer.take_weights()
    parts = {name: first(kernel.delta) for name, kernel in trainer.kernels.items()}
    return {**parts, **{n: v for n, v in values(net).items() if "running" not in n}}


# MXNet's processes of other roles run, and end, where it is imported.
if os.environ.get("DMLC_ROLE") == "worker":
    workers = mx.kv.create("dist_sync")
    found = trained(workers, workers.rank, workers.num_workers)
    np.savez(sys.argv[1].format(workers.rank), **found)
