"""utils/lengths.py: the language keeps its rules, its truth is one, readers learn."""

import math

import numpy as np
import pytest
import torch

from utils import lengths, positions


def some(count=50, L=40, seed=0):
    return lengths.sample_texts(np.random.default_rng(seed), count, L)


def test_texts_keep_their_rules():
    ids, answers = some(400, 64)
    right, symbols, questions = 0, 0, 0
    for text, answered in zip(ids.tolist(), answers.tolist(), strict=True):
        defined = {(i - 8) // 8: i % 8 for i in text[:4]}
        assert sorted(defined) == [0, 1, 2, 3] and all(8 <= i < 40 for i in text[:4])
        for t in range(4, 64):
            asked = text[t - 1] - 40
            assert answered[t] == (asked >= 0)
            if asked >= 0:
                assert text[t] == defined[asked]
            elif text[t] >= 40:
                questions += 1
            else:
                symbols += 1
                right += text[t] == (text[t - 3] + 1) % 8
    assert abs(right / symbols - (0.8 + 0.2 / 8)) < 0.01
    assert abs(questions / (questions + symbols) - 1 / 8) < 0.01


def test_texts_are_spelt_for_human_eyes():
    ids = torch.tensor([8 + 3, 16, 24 + 7, 32 + 1, 4, 40, 3])
    assert lengths.spell_out(ids) == "A3 B0 C7 D1 4 A? 3"


def test_the_true_probabilities_sum_to_one_and_nobody_can_do_better():
    ids, answers = some(6, 20)
    for t in (7, 12, 19):
        total = torch.zeros(6, dtype=torch.double)
        for token in [*range(8), *range(40, 44)]:
            other = ids.clone()
            other[:, t] = token
            total += (-lengths.true_surprise(other, answers)[:, t - 4]).exp()
        kept = ~answers[:, t]
        torch.testing.assert_close(total[kept], torch.ones(int(kept.sum())).double())
    ids, answers = some(3000, 64)
    mean = lengths.true_surprise(ids, answers)[~answers[:, 4:]].mean().item()
    p = [7 / 8 * (0.8 + 0.2 / 8)] + [7 / 8 * 0.2 / 8] * 7 + [1 / 32] * 4
    assert abs(mean + sum(x * math.log(x) for x in p)) < 0.01


class Truth(torch.nn.Module):
    """Logits (B, L, 44) of a reader that knows the language."""

    def forward(self, ids):
        chances = torch.full((*ids.shape, 44), 1e-30, dtype=torch.double)
        for b, t in np.ndindex(*ids.shape):
            if t < 3:
                continue
            if (asked := int(ids[b, t]) - 40) >= 0:
                said = [int(i) % 8 for i in ids[b, :4] if int(i) // 8 == asked + 1]
                chances[b, t, said[0]] = 1
                continue
            chances[b, t, :8] = 7 / 8 * 0.2 / 8
            chances[b, t, (int(ids[b, t - 2]) + 1) % 8] += 7 / 8 * 0.8
            chances[b, t, 40:] = 1 / 32
        return chances.log()


def test_who_knows_the_language_has_no_excess():
    found = lengths.excess_loss(Truth(), count=4, L=256)
    for values in found.values():
        assert len(values) == len(lengths.BANDS)
        assert max(map(abs, values)) < 1e-9


@pytest.mark.parametrize("name", lengths.METHODS)
def test_readers_cannot_look_ahead_and_share_one_method(name):
    torch.manual_seed(0)
    reader = lengths.LookBack(lengths.new_method(name)).double()
    ids, _ = some(2, 12)
    changed = ids.clone()
    changed[:, 8] = (ids[:, 8] + 1) % 8
    with torch.no_grad():
        gap = (reader(ids) - reader(changed)).abs().amax((0, 2))
    assert gap[:8].max() == 0 and gap[8:].max() > 1e-6
    assert all(layer.attention.method is reader.method for layer in reader.layers)


def test_learning_is_seeded_and_learns():
    a, b = (lengths.trained_reader("RoPE", 1, steps=5) for _ in range(2))
    for x, y in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(x, y)
    loss = {
        steps: lengths.excess_loss(
            lengths.trained_reader("Shaw", 0, steps=steps), 16, 256
        )
        for steps in (5, 120)
    }
    assert loss[120]["rule"][0] < loss[5]["rule"][0] - 0.3


def test_the_numbers_of_t5_move_further():
    far, near = (
        lengths.trained_reader("T5", 0, steps=20, haste=haste).method.table.weight
        for haste in (10, 1)
    )
    assert far.abs().max() > 5 * near.abs().max() > 0


def test_a_name_with_a_comma_sets_one_thing_otherwise():
    assert lengths.new_method("Shaw").clip == 8
    assert lengths.new_method("Shaw, clip 255").clip == 255
    assert lengths.new_method("T5").how == (False, 16, 16)
    assert lengths.new_method("T5, 32 buckets").how == (False, 32, 128)
    slow = lengths.new_method("RoPE, base 10").frequencies
    assert torch.equal(slow, positions.frequencies(16, 10))


def test_clipped_distances_stand_still_at_31():
    reader, where = lengths.LookBack(lengths.new_method("ALiBi")), torch.arange(100)
    clipped = lengths.stretched_reader(reader, "clip").method
    plain = positions.alibi_bias(4, where)
    near = positions.offsets(where).abs() < 32
    assert torch.equal(clipped.bias(where)[:, near], plain[:, near])
    assert (clipped.bias(where)[:, ~near] == plain[:, 31, :1]).all()
    both = lengths.stretched_reader(reader, "clip, gain").method
    assert torch.equal(both.bias(where), clipped.bias(where))
    assert both.gain == positions.yarn_gain(8) and clipped.gain == 1


def test_stretching_changes_a_copy_alone():
    reader = lengths.LookBack(lengths.new_method("RoPE"))
    before = reader.method.frequencies.clone()
    others = {
        how: lengths.stretched_reader(reader, how) for how in ("PI", "NTK", "YaRN")
    }
    assert torch.equal(reader.method.frequencies, before) and reader.method.gain == 1
    torch.testing.assert_close(others["PI"].method.frequencies, before / 8)
    assert torch.equal(others["NTK"].method.frequencies, positions.ntk(16, 8))
    assert torch.equal(others["YaRN"].method.frequencies, positions.yarn(16, 8, 32))
    assert [o.method.gain for o in others.values()] == [1, 1, positions.yarn_gain(8)]
    assert others["PI"].layers[1].attention.method is others["PI"].method
    spread = lengths.stretched_reader(reader, "YaRN frequencies").method
    assert torch.equal(spread.frequencies, positions.yarn(16, 8, 32))
    assert spread.gain == 1
    learned = lengths.LookBack(lengths.new_method("learned"))
    table = lengths.stretched_reader(learned, "tiled").method.table.weight
    assert torch.equal(table[40], learned.method.table.weight[8])
