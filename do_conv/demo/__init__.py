"""DO-Conv on real handwritten digits: plain layers, conversion, training, folding.

digits       the images, and the order of the batches
network      the network, its start and its training, the same in every framework
experiment   both networks over several seeds, and their results
report       the table
"""
