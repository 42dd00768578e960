"""The proof that every framework computes what the core does.

cases       the table of named cases
layer       the quantities of a case, by the core and by a framework
training    a small network, trained by the core and by a framework
doors       training in the optimizer, held to training in layers
comparison  runs cases, measures how far a framework is from the core
report      the table a person reads, and the JSON a program reads
"""
