"""Small Keras models, and the classes of their layers."""

import keras


def small(*layers, **options):
    return keras.Sequential([keras.Input((8, 8, 3)), *layers], **options)


def conv(**options):
    return keras.layers.Conv2D(4, 3, **options)


def kinds(model):
    return {layer.name: type(layer).__name__ for layer in model.layers}
