"""Every check takes the right answer, and tells two wrong ones apart by hints."""

import inspect

import pytest
import torch
from torch import nn

from utils.exercises import norms as check
from utils.lab.check import NotYet, exercise, expect_close

RIGHT, WRONG = {}, {}


def right(name):
    return lambda answer: RIGHT.setdefault(name, answer)


def wrong(name):
    return lambda answer: WRONG.setdefault(name, []).append(answer)


RIGHT["crowd_sizes"] = {"BN": 1024, "LN": 768, "IN": 128, "GN": 3072}
WRONG["crowd_sizes"] = [
    {"BN": 8, "LN": 768, "IN": 128, "GN": 3072},
    {"BN": 1024, "LN": 128, "IN": 128, "GN": 3072},
    {"BN": 1024, "LN": 768, "IN": 768, "GN": 3072},
]
RIGHT["pads_to_zero"] = 1
WRONG["pads_to_zero"] = [0, 2]
LN, RMS = {"shift": True, "stretch": True}, {"shift": False, "stretch": True}
RIGHT["blind_to"] = {"LN": LN, "RMSNorm": RMS}
WRONG["blind_to"] = [
    {"LN": LN, "RMSNorm": LN},
    {"LN": RMS, "RMSNorm": RMS},
]


def mean(x):
    return x.mean(-1, keepdim=True)


@right("layer_norm")
def _(x, weight, bias, eps):
    c = x - mean(x)
    return c / (mean(c * c) + eps).sqrt() * weight + bias


@wrong("layer_norm")
def _(x, weight, bias, eps):
    return (x - mean(x)) / (x.std(-1, keepdim=True) + eps) * weight + bias


@wrong("layer_norm")
def _(x, weight, bias, eps):
    c = x - mean(x)
    return c / (mean(c * c) + eps) * weight + bias


@wrong("layer_norm")
def _(x, weight, bias, eps):
    variance = mean(x * x) - mean(x) ** 2
    return (x - mean(x)) / (variance + eps).sqrt() * weight + bias


@right("rms_norm_backward")
def _(x, g, eps):
    r = (mean(x * x) + eps).sqrt()
    return (g - x / r * mean(g * x / r)) / r


@wrong("rms_norm_backward")
def _(x, g, eps):
    return g / (mean(x * x) + eps).sqrt()


@wrong("rms_norm_backward")
def _(x, g, eps):
    r = (mean(x * x) + eps).sqrt()
    return (g - mean(g) - x / r * mean(g * x / r)) / r


@right("masked_batch_norm")
def _(x, mask, eps):
    rows = x[mask]
    return (x - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()


@wrong("masked_batch_norm")
def _(x, mask, eps):
    rows = x.reshape(-1, x.shape[-1])
    return (x - rows.mean(0)) / (rows.var(0, correction=0) + eps).sqrt()


@wrong("masked_batch_norm")
def _(x, mask, eps):
    x0 = x * mask[..., None]
    return (x - x0.mean((0, 1))) / (
        (x0 - x0.mean((0, 1))).square().mean((0, 1)) + eps
    ).sqrt()


def linear_of(weight, bias):
    result = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
    result.weight.data, result.bias.data = weight, bias
    return result


@right("fold")
def _(linear, bn):
    s = bn.weight / (bn.running_var + bn.eps).sqrt()
    bias = (linear.bias - bn.running_mean) * s + bn.bias
    return linear_of(linear.weight * s[:, None], bias)


@wrong("fold")
def _(linear, bn):
    s = bn.weight / (bn.running_var + bn.eps).sqrt()
    return linear_of(linear.weight * s[:, None], linear.bias * s + bn.bias)


@wrong("fold")
def _(linear, bn):
    s = bn.weight / bn.running_var.sqrt()
    bias = (linear.bias - bn.running_mean) * s + bn.bias
    return linear_of(linear.weight * s[:, None], bias)


@right("qk_logits")
def _(q, k, g):
    q, k = (g * t / mean(t * t).sqrt() for t in (q, k))
    return q @ k.T / q.shape[-1] ** 0.5


@wrong("qk_logits")
def _(q, k, g):
    q, k = (t / t.norm(dim=-1, keepdim=True) for t in (q, k))
    return g * g * q @ k.T / q.shape[-1] ** 0.5


@wrong("qk_logits")
def _(q, k, g):
    q, k = (t / mean(t * t).sqrt() for t in (q, k))
    return g * q @ k.T / q.shape[-1] ** 0.5


@right("centre")
def _(linear):
    w, b = linear.weight.detach(), linear.bias.detach()
    return linear_of(w - w.mean(0), b - b.mean())


@wrong("centre")
def _(linear):
    w, b = linear.weight.detach(), linear.bias.detach()
    return linear_of(w - w.mean(1, keepdim=True), b - b.mean())


@wrong("centre")
def _(linear):
    w, b = linear.weight.detach(), linear.bias.detach()
    return linear_of(w - w.mean(0), b)


NAMES = sorted(
    name
    for name, thing in vars(check).items()
    if getattr(thing, "is_exercise", False) and not name.startswith("_")
)


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_passes(name, capsys):
    getattr(check, name)(RIGHT[name])
    assert capsys.readouterr().out.startswith("Right. Checked: ")


@pytest.mark.parametrize("name", NAMES)
def test_an_open_exercise_is_no_failure(name, capsys):
    getattr(check, name)(...)
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_wrong_answers_get_different_hints(name):
    hints = []
    for answer in WRONG[name]:
        with pytest.raises(NotYet) as caught:
            getattr(check, name)(answer)
        message = str(caught.value)
        hints.append(message.partition("Hint: ")[2])
        source = inspect.getsource(RIGHT[name]) if callable(RIGHT[name]) else "☃"
        lines = [line.strip() for line in source.splitlines()[2:] if line.strip()]
        assert not any(line in message for line in lines), "it gives the answer away"
    assert len(hints) >= 2 and all(hints) and len(set(hints)) == len(hints), hints


@exercise
def twice(answer):
    """doubling."""
    hint = "Add x to x."
    expect_close("f", answer(torch.ones(2, 3)), torch.full((2, 3), 2.0), {}, hint)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: None, "f is None"),
        (lambda x: x.sum(0), "keepdim=True"),
        (lambda x: 2 * x.T, "order is not"),
        (lambda x: x, "off by up to 1.*Add x to x"),
        (lambda x: x + torch.ones(7), "raised RuntimeError"),
    ],
)
def test_the_machinery_says_what_is_wrong(answer, message):
    with pytest.raises(NotYet, match=f"(?s){message}"):
        twice(answer)


def test_the_notebook_shows_the_message_alone():
    assert NotYet("Look again.")._render_traceback_() == ["Not yet. Look again."]
