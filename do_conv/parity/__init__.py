"""The proof that every framework computes what the core does.

cases       the table of named cases
layer       the arrays of a case, and what the core makes of them
training    a small network, trained by the core
backends    the same two in each framework
comparison  runs cases, measures how far a framework is from the core
report      the table a person reads, and the JSON a program reads
"""
