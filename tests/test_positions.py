"""utils/positions.py: loops and complex numbers, the library, properties."""

import cmath
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from utils import positions

B, H, L, D = 2, 4, 7, 8  # texts, heads, length, features of a head
quick = settings(max_examples=50, deadline=None)


def block(seed: int = 0, shape=(B, H, L, D)):
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def close(ours, theirs, atol=1e-12):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol, check_dtype=False)


# Oracles that share no code.


def test_sinusoids_against_the_printed_formula():
    ours = positions.sinusoidal(torch.arange(50), 6)
    for p, i in np.ndindex(50, 3):
        angle = p / 10_000 ** (2 * i / 6)
        assert abs(ours[p, 2 * i] - math.sin(angle)) < 1e-12
        assert abs(ours[p, 2 * i + 1] - math.cos(angle)) < 1e-12


def turned(vector, position, base, pairs):
    """Each pair as one complex number, multiplied by e^{i · position · frequency}."""
    result = list(vector)
    for number, (a, b) in enumerate(pairs):
        angle = position * base ** (-number / len(pairs))
        z = complex(vector[a], vector[b]) * cmath.exp(1j * angle)
        result[a], result[b] = z.real, z.imag
    return result


PAIRS = {
    "halves": lambda r: [(i, i + r // 2) for i in range(r // 2)],
    "neighbours": lambda r: [(2 * i, 2 * i + 1) for i in range(r // 2)],
}


@pytest.mark.parametrize("rotated", [2, 6, 8])
@pytest.mark.parametrize("pairing", PAIRS)
def test_rotation_against_complex_numbers(pairing, rotated):
    x, places = block(), torch.tensor([0, 1, 2, 5, 40, 1000, 3])
    rope = positions.RoPE(H, D, base=50.0, pairing=pairing, rotated=rotated)
    ours, pairs = rope.turn(x, places), PAIRS[pairing](rotated)
    for b, h, t in np.ndindex(B, H, L):
        expected = turned(x[b, h, t].tolist(), int(places[t]), 50.0, pairs)
        close(ours[b, h, t], torch.tensor(expected, dtype=torch.double))


def bucket(offset, bidirectional, buckets, most):
    """T5's bucket with whole numbers alone: n ≥ e (M/e)^{k/E} is n^E e^k ≥ M^k e^E."""
    side = buckets // 2 if bidirectional else buckets
    first = side if bidirectional and offset > 0 else 0
    n = abs(offset) if bidirectional else max(-offset, 0)
    e, E = side // 2, side - side // 2
    if n < e:
        return first + n
    steps = [k for k in range(E) if n**E * e**k >= most**k * e**E]
    return first + e + max(steps)


BUCKETS = [(True, 32, 128), (False, 32, 128), (False, 16, 16), (True, 12, 50)]


@pytest.mark.parametrize("how", BUCKETS)
def test_buckets_against_whole_numbers(how):
    ours = positions.t5_bucket(torch.arange(-600, 600), *how)
    assert ours.tolist() == [bucket(n, *how) for n in range(-600, 600)]


def test_slopes_of_the_paper():
    assert positions.alibi_slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    twelve = [*(-i for i in range(1, 9)), -0.5, -1.5, -2.5, -3.5]
    close(
        positions.alibi_slopes(12),
        torch.tensor([2**i for i in twelve], dtype=torch.double),
    )


def loop(query, key, value, score, causal, mask):
    """Attention cell by cell; score(b, h, i, j) is everything before the softmax."""
    result = torch.zeros(query.shape, dtype=torch.double)
    for b, h, i in np.ndindex(*query.shape[:3]):
        seen = [j for j in range(L) if mask[b, j] and (j <= i or not causal)]
        weights = [math.exp(score(b, h, i, j)) for j in seen]
        for j, weight in zip(seen, weights, strict=True):
            result[b, h, i] += weight / math.fsum(weights) * value[b, h, j]
    return result


def method(name):
    torch.manual_seed(0)
    options = {"Learned": {"length": 600}, "Shaw": {"clip": 3}}.get(name, {})
    return getattr(positions, name)(H, D, **options).double()


METHODS = ["Nothing", "Sinusoidal", "Learned", "Shaw", "T5Bias", "ALiBi", "RoPE"]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("name", METHODS[2:])
@torch.no_grad()
def test_attention_against_a_loop_over_cells(name, causal):
    q, k, v = (block(seed) for seed in range(3))
    mask = torch.ones(B, L, dtype=torch.bool)
    mask[0, 5:] = mask[1, 6:] = False
    how = method(name)

    def score(b, h, i, j):
        plain = float(q[b, h, i] @ k[b, h, j]) / D**0.5
        if name == "Shaw":
            vector = how.table.weight[max(-3, min(3, j - i)) + 3]
            return plain + float(q[b, h, i] @ vector) / D**0.5
        if name == "T5Bias":
            return plain + float(how.table.weight[bucket(j - i, False, 32, 128), h])
        if name == "ALiBi":
            return plain - abs(i - j) * 2 ** (-8 * (h + 1) / H)
        if name == "RoPE":
            pairs = PAIRS["halves"](D)
            a = turned(q[b, h, i].tolist(), i, 10_000, pairs)
            c = turned(k[b, h, j].tolist(), j, 10_000, pairs)
            return math.fsum(x * y for x, y in zip(a, c, strict=True)) / D**0.5
        return plain

    expected = loop(q, k, v, score, causal, mask)
    close(positions.attention(q, k, v, how, causal=causal, mask=mask), expected)


@pytest.mark.parametrize("name", METHODS)
def test_gradcheck(name):
    layer = positions.Attention(method(name)).double()

    def run(x):
        return layer(layer.method.embed(x, torch.arange(3)))

    assert torch.autograd.gradcheck(run, block(3, (1, 3, H * D)).requires_grad_())


# The library.


@pytest.mark.parametrize("how", [*BUCKETS, (False, 10, 100), (True, 64, 1000)])
def test_buckets_equal_transformers(how):
    from transformers.models.t5.modeling_t5 import T5Attention

    offset = torch.arange(-200_000, 200_001)
    theirs = T5Attention._relative_position_bucket(offset, *how)
    assert torch.equal(positions.t5_bucket(offset, *how), theirs)


@pytest.mark.parametrize("decoder", [True, False])
def test_t5_attention_equals_transformers(decoder):
    from transformers import T5Config
    from transformers.models.t5.modeling_t5 import T5Attention

    config = T5Config(d_model=H * D, d_kv=D, num_heads=H, is_decoder=decoder)
    config._attn_implementation = "eager"
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0).eval()
    theirs = theirs.double()
    ours = positions.Attention(
        positions.T5Bias(H, D, bidirectional=not decoder), causal=decoder
    ).double()
    with torch.no_grad():
        parts = theirs.q.weight * D**0.5, theirs.k.weight, theirs.v.weight
        ours.qkv.weight.copy_(torch.cat(parts))
        ours.out.weight.copy_(theirs.o.weight)
        ours.method.table.weight.copy_(theirs.relative_attention_bias.weight)
        for linear in (ours.qkv, ours.out):
            linear.bias.zero_()
    x = block(4, (B, L, H * D))
    future = torch.full((L, L), -math.inf).triu(1) if decoder else torch.zeros(L, L)
    close(ours(x), theirs(x, mask=future[None, None].double())[0], 1e-10)


@pytest.mark.parametrize("heads", range(1, 41))
def test_alibi_equals_bloom(heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    mask = torch.ones(1, 9)
    theirs = build_alibi_tensor(mask, heads, torch.float32)  # (heads, 1, 9)
    ours = positions.alibi_bias(heads, torch.arange(9)).float()
    close(ours[:, -1:] - ours[:, -1:, :1], theirs, 1e-6)
    seen = torch.ones(9, 9).tril().bool()  # one number per row is nothing to softmax
    a, b = (t.masked_fill(~seen, -math.inf).softmax(-1) for t in (ours, theirs))
    close(a, b, 1e-6)


def test_shaw_equals_transformers():
    from transformers import Wav2Vec2BertConfig
    from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as speech

    config = Wav2Vec2BertConfig(
        hidden_size=H * D,
        num_attention_heads=H,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=3,
        right_max_position_embeddings=3,
    )
    config._attn_implementation = "eager"
    theirs = speech.Wav2Vec2BertSelfAttention(config).eval().double()
    ours = positions.Attention(positions.Shaw(H, D, clip=3), causal=False).double()
    with torch.no_grad():
        for part in ("weight", "bias"):
            names = ("linear_q", "linear_k", "linear_v")
            stacked = [getattr(getattr(theirs, name), part) for name in names]
            getattr(ours.qkv, part).copy_(torch.cat(stacked))
            getattr(ours.out, part).copy_(getattr(theirs.linear_out, part))
        ours.method.table.weight.copy_(theirs.distance_embedding.weight)
    x = block(5, (B, L, H * D))
    close(ours(x), theirs(x)[0], 1e-10)


def llama(**rope):
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=H * D,
        num_attention_heads=H,
        num_key_value_heads=H,
        max_position_embeddings=rope.pop("length", 2048),
        rope_parameters={"rope_theta": 500.0, "rope_type": "default"} | rope,
        attn_implementation="eager",
    )


YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 256}


@pytest.mark.parametrize("rope", [{}, {"rope_type": "linear", "factor": 4.0}, YARN])
def test_a_llama_layer_equals_transformers(rope):
    from transformers.models.llama import modeling_llama

    config, x = llama(**rope), block(6, (B, L, H * D))
    theirs = modeling_llama.LlamaAttention(config, layer_idx=0).double()
    method = positions.RoPE(H, D, base=500.0)
    if rope:
        linear = rope["rope_type"] == "linear"
        method.frequencies = (
            positions.interpolated(D, 4, 500.0)
            if linear
            else positions.yarn(D, 8, 256, 500.0)
        )
        method.gain = 1.0 if linear else positions.yarn_gain(8)
    ours = positions.Attention(method).double()
    with torch.no_grad():
        parts = (theirs.q_proj, theirs.k_proj, theirs.v_proj)
        ours.qkv.weight.copy_(torch.cat([part.weight for part in parts]))
        ours.out.weight.copy_(theirs.o_proj.weight)
        for linear in (ours.qkv, ours.out):
            linear.bias.zero_()
    places = torch.arange(L) * 30
    turn = modeling_llama.LlamaRotaryEmbedding(config)(x, places[None])
    future = torch.full((L, L), -math.inf).triu(1)[None, None].double()
    close(ours(x, places), theirs(x, turn, future)[0], 1e-5)


def test_partial_rotation_equals_gpt_neox():
    from transformers import GPTNeoXConfig
    from transformers.models.gpt_neox import modeling_gpt_neox as neox

    config = GPTNeoXConfig(hidden_size=H * 16, num_attention_heads=H, rotary_pct=0.25)
    q, k, places = block(7, (B, H, L, 16)), block(8, (B, H, L, 16)), torch.arange(L)
    cos, sin = neox.GPTNeoXRotaryEmbedding(config)(q, places[None])
    ours = positions.RoPE(H, 16, rotated=4)
    theirs = neox.apply_rotary_pos_emb(q, k, cos, sin)
    close(ours.turn(q, places), theirs[0], 1e-6)
    close(ours.turn(k, places), theirs[1], 1e-6)


def test_rotation_of_neighbours_equals_gpt_j():
    from transformers.models.gptj import modeling_gptj as gptj

    q, places = block(9), torch.arange(L)
    sin, cos = gptj.create_sinusoidal_positions(L, D)[None].chunk(2, -1)
    theirs = gptj.apply_rotary_pos_emb(q.transpose(1, 2), sin, cos).transpose(1, 2)
    ours = positions.RoPE(H, D, pairing="neighbours").turn(q, places)
    close(ours, theirs, 1e-6)


def library_frequencies(d, **rope):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    length, seq_len = rope.pop("length", 4096), rope.pop("seq_len", None)
    config = llama(length=length, **rope)
    config.head_dim = d
    return ROPE_INIT_FUNCTIONS[rope["rope_type"]](config, "cpu", seq_len)


def same_frequencies(ours, theirs):
    torch.testing.assert_close(ours.float(), theirs, rtol=2e-6, atol=0)


@pytest.mark.parametrize("factor", [1.0, 4.0, 32.0])
@pytest.mark.parametrize("d", [8, 64, 128])
@pytest.mark.parametrize("trained", [32, 512, 4096])
def test_stretched_frequencies_equal_transformers(d, factor, trained):
    given = {"rope_theta": 10_000.0, "factor": factor}
    theirs, _ = library_frequencies(d, rope_type="linear", **given)
    same_frequencies(positions.interpolated(d, factor), theirs)
    theirs, gain = library_frequencies(
        d, rope_type="yarn", original_max_position_embeddings=trained, **given
    )
    same_frequencies(positions.yarn(d, factor, trained), theirs)
    assert math.isclose(positions.yarn_gain(factor), gain)
    theirs, _ = library_frequencies(  # "dynamic" with factor 1 is NTK by the length
        d,
        rope_type="dynamic",
        rope_theta=10_000.0,
        factor=1.0,
        length=trained,
        seq_len=int(trained * factor),
    )
    same_frequencies(positions.ntk(d, factor), theirs)


def test_yarn_with_other_ends_equals_transformers():
    theirs, _ = library_frequencies(
        64, rope_theta=100.0, beta_fast=4.0, beta_slow=0.5, **YARN
    )
    same_frequencies(positions.yarn(64, 8, 256, 100.0, fast=4, slow=0.5), theirs)


# Properties.

places = st.lists(st.integers(0, 500), min_size=L, max_size=L)


@quick
@given(places, st.integers(0, 5000), st.sampled_from(METHODS))
def test_scores_of_relative_methods_do_not_see_a_shift(where, k, name):
    where, how = torch.tensor(where), method(name)
    if name in ("Sinusoidal", "Learned"):
        where, k = where.clamp_max(300), k % 200 + 1
    layer = positions.Attention(how, causal=False).double()
    x = block(10, (1, L, H * D))
    with torch.no_grad():
        a, b = (layer(how.embed(x, p), p) for p in (where, where + k))
    gap = (a - b).abs().max()
    assert gap > 1e-5 if name in ("Sinusoidal", "Learned") else gap < 1e-9


@quick
@given(st.integers(0, 10**6), st.integers(0, 10**5), st.sampled_from(list(PAIRS)))
def test_rotation_keeps_lengths_and_adds_up(seed, position, pairing):
    x, omega = block(seed, (1, D)), positions.frequencies(D)
    once = positions.rotate(x, position * omega, pairing)
    close(once.norm(dim=-1), x.norm(dim=-1), 1e-9)
    again = positions.rotate(once, 7 * omega, pairing)
    close(again, positions.rotate(x, (position + 7) * omega, pairing), 1e-9)


@quick
@given(st.integers(-1000, 1000), st.integers(0, 1000))
def test_shift_moves_sinusoids(k, p):
    R = positions.shift(k, 16)
    here, there = positions.sinusoidal(torch.tensor([p, p + k]), 16)
    close(R @ here, there, 1e-9)
    close(R @ R.T, torch.eye(16))


def test_pairings_are_one_method_in_another_order():
    x, angles = block(11), torch.arange(L)[:, None] * positions.frequencies(D)
    order = positions.neighbours_to_halves(D)
    assert order.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    close(
        positions.rotate(x[..., order], angles, "halves"),
        positions.rotate(x, angles, "neighbours")[..., order],
    )


@quick
@given(st.sampled_from([8, 32, 64, 128]), st.floats(1, 64), st.integers(16, 8192))
def test_stretching_lies_between_nothing_and_interpolation(d, factor, trained):
    plain, most = positions.frequencies(d), positions.interpolated(d, factor)
    for ours in (positions.ntk(d, factor), positions.yarn(d, factor, trained)):
        assert (ours <= plain * (1 + 1e-9)).all() and (ours >= most * (1 - 1e-9)).all()
    stretch = plain / positions.ntk(d, factor)
    assert math.isclose(stretch[0], 1) and math.isclose(stretch[-1], factor)
    turns = trained * plain / (2 * math.pi)
    ours = positions.yarn(d, factor, trained)
    step = plain[0] / plain[1]  # the ramp's ends are rounded by less than one pair
    close(ours[turns > 32 * step], plain[turns > 32 * step])
    close(ours[turns < 1 / step], most[turns < 1 / step])


@pytest.mark.parametrize("name", METHODS)
def test_pads_on_the_left_do_not_matter_if_positions_are_told(name):
    how, pads = method(name), 3
    layer = positions.Attention(how).double()
    x = block(12, (1, L, H * D))
    wide = torch.cat([block(13, (1, pads, H * D)), x], 1)
    mask = torch.arange(L + pads)[None] >= pads
    told = (torch.arange(L + pads)[None] - pads).clamp_min(0)
    expected = layer(how.embed(x, torch.arange(L)))
    with torch.no_grad():
        close(layer(how.embed(wide, told), told, mask)[:, pads:], expected, 1e-9)
        silent = torch.arange(L + pads)
        gap = layer(how.embed(wide, silent), silent, mask)[:, pads:] - expected
    assert (gap.abs().max() > 1e-5) == (name in ("Sinusoidal", "Learned"))


def test_large_positions_keep_their_angles_in_sixteen_bits():
    x = torch.ones(1, 1, 2, D, dtype=torch.bfloat16)
    near = positions.RoPE(1, D).turn(x, torch.tensor([4096, 4097])).float()
    assert (near[..., 0, :] - near[..., 1, :]).abs().max() > 0.5


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: positions.frequencies(7), ValueError, "d = 7 features do not"),
        (lambda: positions.frequencies(0), ValueError, "d = 0 features do not"),
        (lambda: positions.frequencies(8, 1.0), ValueError, "base = 1.0"),
        (lambda: positions.RoPE(2, 5), ValueError, "d = 5 features do not"),
        (
            lambda: positions.sinusoidal(torch.arange(3), 5),
            ValueError,
            "d = 5 features do not",
        ),
        (lambda: positions.alibi_slopes(0), ValueError, "heads = 0"),
        (lambda: positions.ALiBi(0, 4), ValueError, "heads = 0, d = 4"),
        (lambda: positions.interpolated(8, 0.5), ValueError, "factor = 0.5"),
        (lambda: positions.ntk(8, 0.5), ValueError, "factor = 0.5"),
        (lambda: positions.ntk(2, 4), ValueError, "d = 2: one pair"),
        (lambda: positions.yarn(8, 0, 32), ValueError, "factor = 0"),
        (lambda: positions.yarn_gain(0), ValueError, "factor = 0"),
        (
            lambda: positions.t5_bucket(torch.arange(3), True, 2),
            ValueError,
            "2 buckets for max_distance = 128",
        ),
        (
            lambda: positions.t5_bucket(torch.arange(3), False, 32, 16),
            ValueError,
            "32 buckets for max_distance = 16",
        ),
        (
            lambda: positions.rotate(block(), torch.ones(L, 4), "thirds"),
            ValueError,
            "'thirds' is neither",
        ),
        (
            lambda: positions.rotate(block(), torch.ones(L, 5)),
            ValueError,
            "5 angles turn 10 features; x has 8",
        ),
        (
            lambda: method("Learned").embed(
                block(0, (1, 2, 32)), torch.tensor([1, 600])
            ),
            IndexError,
            "position 600 of a table of 600",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
