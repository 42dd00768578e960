"""Each framework: steps that compose a kernel, and training steps of a layer.

Every module has

    MODES                               how its code can run, such as eager and compiled
    composing(spec, mode)               W', forward and backward, by the authors' formula and ours
    training(spec, size, batch, mode)   a step of one layer: plain, by the authors' formula, ours
    set_threads(threads), versions()

`composing` and `training` return functions without arguments, by name; the first is what the others
are held to. The authors' formula, written here from its description, is D = D' + I and one einsum.
"""
