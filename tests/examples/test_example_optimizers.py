"""What the pages say of optimizers that scale by a parameter's norm, on few steps."""

import do_conv.gluon  # noqa: F401  # before mxnet, which reads names that this module restores

# isort: split
import cpu_torchvision  # noqa: F401  # before timm

from examples.optimizers import gluon_digits, keras_digits, torch_digits


def relative(name, steps=15):
    """|D'| relative to |I|."""
    return torch_digits.moved(*torch_digits.OPTIMIZERS[name], steps)[1]


def test_clipping_that_judges_d_by_itself_holds_it_at_the_identity():
    assert relative("SGD, timm's adaptive_clip_grad") < 1e-4
    assert relative("SGD, our adaptive_clip_grad") > 1e-2


def test_adafactor_holds_d_at_the_identity_unless_its_scale_is_that_of_d():
    for plain, right in (
        ("Adafactor", "Adafactor, D' with eps=(None, 1/3)"),
        ("timm Adafactor without a rate", "timm Adafactor, D' with eps_scale=1/3"),
    ):
        assert relative(plain) < 1e-3
        assert relative(right) > 0.05


def test_the_first_step_of_lars_is_taken_at_the_full_rate():
    assert relative("timm Lars", 1) > 10 * relative("timm Lars, D' with weight_decay=0, lr=0.1", 1)
    by_lars = gluon_digits.moved(*gluon_digits.OPTIMIZERS["lars"], 1)[1]
    by_sgd = gluon_digits.moved(*gluon_digits.OPTIMIZERS["lars, D' by sgd"], 1)[1]
    assert by_lars > 10 * by_sgd > 0


def test_lamb_hardly_moves_d_after_the_first_step_unless_it_is_left_out():
    lamb, free = "timm Lamb", "timm Lamb, D' with weight_decay=0"
    assert relative(lamb) < 1.2 * relative(lamb, 1)
    assert relative(free) > 5 * relative(free, 1)
    first, later = (gluon_digits.moved(*gluon_digits.OPTIMIZERS["lamb"], n)[1] for n in (1, 15))
    assert 0 < later < 1.2 * first


def test_keras_adafactor_holds_d_at_the_identity():
    assert keras_digits.moved(keras_digits.OPTIMIZERS["Adafactor"](), 1)[1] < 1e-3
    assert keras_digits.moved(keras_digits.OPTIMIZERS["AdamW"](), 1)[1] > 0.05


def test_a_table_is_printed(capsys):
    assert torch_digits.main(["--steps", "1"]) == 0
    assert gluon_digits.main(["--steps", "1"]) == 0
    assert "SGD, our adaptive_clip_grad" in capsys.readouterr().out
