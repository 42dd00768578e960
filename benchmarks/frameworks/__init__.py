"""Each framework: steps that compose a kernel, and training steps of a layer.

Every module has

    MODES                               how its code can run, such as eager and compiled
    composing(spec, mode)               W', forward and backward, by the authors' formula and ours
    training(spec, size, batch, mode)   a step of one layer: plain, by the authors' formula, ours
    NETWORKS                            those that the framework's zoo has
    training_network(name, size, batch, mode), evaluating_network(...)
    set_threads(threads), versions()
    timed(step)                         its seconds
    rates(threads, mode)                what the machine or the device can do

PyTorch's has `step_ratio(name, size, batch)` too, what `do-conv cost` expects.

All return functions without arguments, by name; the first is what the others are held to. The
authors' formula, written here from its description, is D = D' + I and one einsum.
"""
