"""Whole models.

conversion     `convert`
planning       `plan`, and the description of a network
classes        the class that takes a layer's place
folding        `fold`
state          `folded_parameters`: the folded parameters alone
verification   `verify`
structure      how a network is made of blocks
copies         copies of whole networks
"""
