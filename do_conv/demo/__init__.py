"""DO-Conv on real handwritten digits: plain layers, conversion, training, folding.

digits       the images, and the order of the batches
network      the network, its start and its training, the same in every framework
experiment   plain, with layers, and in the optimizer, over several seeds
report       the table
"""
