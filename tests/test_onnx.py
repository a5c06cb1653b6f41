"""Exported files against the module, and every way in which a request can fail."""

import numpy as np
import onnx as library
import onnxruntime
import pytest
import torch
from torch import nn

from utils import onnx


class Tiny(nn.Module):
    """Ids and a mask (B, L) to vectors (B, L, 3) and their mean over a text (B, 16)."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(50, 16)
        self.layer = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16))
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask):
        h = self.table(input_ids)
        weights = attention_mask[..., None] / attention_mask.sum(1)[:, None, None]
        h = self.norm(h + self.layer(h) + (weights * h).sum(1, keepdim=True))
        return self.out(h), (weights * h).sum(1)


DYNAMIC = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}


def batch(size: int, length: int, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    mask = torch.ones(size, length, dtype=torch.long)
    mask[0, length // 2 + 1 :] = 0
    ids = torch.tensor(rng.integers(50, size=(size, length)))
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def module():
    return Tiny().eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("onnx")


@pytest.fixture(scope="module")
def path(module, folder):
    outputs = ["vectors", "mean"]
    return onnx.export(module, batch(2, 7), folder / "tiny.onnx", DYNAMIC, outputs)


@pytest.fixture(scope="module")
def frozen(module, folder):
    return onnx.export(module, batch(2, 7), folder / "frozen.onnx")


def test_the_file_computes_what_the_module_does(path, module):
    batches = [batch(b, n, seed=n) for b, n in [(1, 1), (1, 40), (2, 7), (5, 3)]]
    assert onnx.verify(path, module, batches, 1e-5) < 1e-5
    assert onnx.opset_of(path) == 20
    library.checker.check_model(library.load(path), full_check=True)
    assert onnx.operators(path)["LayerNormalization"] == 1


def test_the_file_tells_nothing_of_its_author(path):
    stored = path.read_bytes()
    assert b"stack_trace" not in stored
    assert b".py" not in stored


@pytest.mark.parametrize("training", [True, False])
def test_the_module_keeps_its_mode(training, tmp_path):
    module = Tiny().train(training)
    onnx.export(module, batch(2, 7), tmp_path / "mode.onnx", DYNAMIC)
    with pytest.raises(onnx.ExportError):
        onnx.export(module, batch(2, 7), tmp_path / "mode.onnx", DYNAMIC, opset=11)
    assert module.training is training and module.norm.training is training


def test_two_runtimes_agree(path):
    from onnx.reference import ReferenceEvaluator

    given = {name: value.numpy() for name, value in batch(3, 5).items()}
    found = onnx.run(onnx.session(path), given)
    vectors, mean = ReferenceEvaluator(library.load(path)).run(None, given)
    np.testing.assert_allclose(found["vectors"], vectors, atol=1e-5)
    np.testing.assert_allclose(found["mean"], mean, atol=1e-5)


def test_a_frozen_file_takes_one_shape(frozen, module):
    onnx.verify(frozen, module, [batch(2, 7, seed=3)], 1e-5)
    with pytest.raises(ValueError, match=r"input_ids is \(2, 9\), the graph wants"):
        onnx.run(onnx.session(frozen), batch(2, 9))
    with pytest.raises(Exception, match="INVALID_ARGUMENT"):
        given = {k: v.numpy() for k, v in batch(2, 9).items()}
        onnx.session(frozen).run(None, given)


def test_optimising_fuses_and_keeps_the_values(path, folder, module):
    counts = {}
    for level in onnx.LEVELS:
        out = onnx.optimise(path, folder / f"{level}.onnx", level)
        counts[level] = sum(onnx.operators(out).values())
        assert onnx.verify(out, module, [batch(2, 9)], 1e-5) < 1e-5
    assert counts["all"] < counts["none"]
    with pytest.raises(ValueError, match="level 'most' is none of none, basic"):
        onnx.session(path, "most")


def test_quantised_files_are_smaller_and_near(path, folder, module):
    calibration = [batch(4, 8, seed=seed) for seed in range(5)]
    dynamic = onnx.quantise_dynamic(path, folder / "dynamic.onnx")
    tables = onnx.quantise_dynamic(path, folder / "tables.onnx", embeddings=True)
    static = onnx.quantise_static(path, folder / "static.onnx", calibration, True)
    assert onnx.operators(dynamic)["MatMulInteger"] == 3
    assert onnx.operators(dynamic)["DynamicQuantizeLinear"] >= 3
    assert "DynamicQuantizeLinear" not in onnx.operators(static)
    assert tables.stat().st_size < dynamic.stat().st_size < path.stat().st_size
    for out in (dynamic, tables, static):
        (error,) = onnx.compare(onnx.session(out), module, [batch(6, 8, seed=9)])
        assert 1e-6 < error < 0.2, out.name
    with pytest.raises(ValueError, match="needs batches to calibrate on"):
        onnx.quantise_static(path, folder / "none.onnx", [])


class Branching(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Eigen(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).abs()


class Ignoring(nn.Module):
    def forward(self, x, y):
        return x + 1


class Frozen(nn.Module):
    def forward(self, x):
        return x.reshape(2, -1) if x.shape[0] == 2 else x


@pytest.mark.parametrize(
    ("module", "example", "options", "complaint"),
    [
        (
            Branching(),
            {"x": torch.ones(2, 3)},
            {},
            "Branching cannot be exported: .*data",
        ),
        (Eigen(), {"x": torch.ones(3, 3)}, {}, "Eigen cannot be exported: .*eig"),
        (
            Tiny(),
            batch(2, 7),
            {"opset": 11},
            "asked for opset 11, the exporter wrote 18",
        ),
        (Tiny(), batch(1, 7), {"dynamic": DYNAMIC}, r"input_ids \(1, 7\): axis 0 is 1"),
        (Eigen(), {"x": torch.ones(3, 3)}, {"dynamic": {"z": {0: "n"}}}, "of 'z'"),
        (Frozen(), {"x": torch.ones(2, 3)}, {"dynamic": {"x": {0: "n"}}}, "conflicts"),
    ],
)
def test_what_cannot_be_exported_is_said(module, example, options, complaint, tmp_path):
    with pytest.raises(onnx.ExportError, match=complaint):
        onnx.export(module, example, tmp_path / "out.onnx", **options)
    assert not list(tmp_path.iterdir()), "half a file was left"


def test_an_input_that_forward_ignores_does_no_harm(tmp_path):
    example = {"x": torch.ones(2, 3), "y": torch.ones(2, 3)}
    path = onnx.export(Ignoring(), example, tmp_path / "out.onnx", {"x": {0: "n"}})
    assert set(onnx.operators(path)) == {"Add"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (
            lambda b: b | {"token_type_ids": b["input_ids"]},
            "token_type_ids is no input",
        ),
        (lambda b: {"input_ids": b["input_ids"]}, "attention_mask is missing"),
        (
            lambda b: {k: v.int() for k, v in b.items()},
            "is int32, the graph wants int64",
        ),
        (lambda b: {k: v[0] for k, v in b.items()}, r"is \(7,\), the graph wants"),
    ],
)
def test_wrong_inputs_are_named_before_anything_runs(path, change, complaint):
    with pytest.raises(ValueError, match=complaint):
        onnx.run(onnx.session(path), change(batch(2, 7)))


@pytest.mark.parametrize("kept", [0, 10, 2000, -10])
def test_a_cut_file_is_refused(path, tmp_path, kept):
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="cut.onnx is no whole ONNX model"):
        onnx.session(cut)
    with pytest.raises(ValueError, match="cut.onnx is no whole ONNX model"):
        onnx.optimise(cut, tmp_path / "out.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["cut.onnx"]


def test_missing_files_and_folders_are_named(module, tmp_path):
    with pytest.raises(FileNotFoundError, match="no file gone.onnx"):
        onnx.session(tmp_path / "gone.onnx")
    with pytest.raises(FileNotFoundError, match="no folder nowhere"):
        onnx.export(module, batch(2, 7), tmp_path / "nowhere" / "x.onnx")


def test_a_wrong_file_is_found_out(path, module, folder):
    other = Tiny().eval()
    with torch.no_grad():
        other.out.bias += 0.1
    with pytest.raises(ValueError, match=r"off by 0.1 on input_ids \(2, 5\)"):
        onnx.verify(path, other, [batch(2, 5)], 1e-4)


def test_sessions_do_not_spin(path):
    options = onnx.session(path, threads=2).get_session_options()
    key = "session.intra_op.allow_spinning"
    assert options.get_session_config_entry(key) == "0"
    assert options.intra_op_num_threads == 2
    assert "CPUExecutionProvider" in onnxruntime.get_available_providers()


def test_the_flow_of_a_graph_is_that_of_its_names(path):
    labels, edges = onnx.flow(path)
    graph = library.load(path).graph
    assert labels == [node.op_type for node in graph.node]
    for start, end in edges:
        assert set(graph.node[start].output) & set(graph.node[end].input)
    last = labels.index("LayerNormalization")
    assert any(start == last for start, _ in edges)


def test_weights_that_stayed_behind_are_named(module, tmp_path):
    with onnx.quiet():
        program = torch.onnx.export(module, (), kwargs=batch(2, 7), verbose=False)
    program.save(str(tmp_path / "split.onnx"), external_data=True)
    onnx.session(tmp_path / "split.onnx")
    (tmp_path / "split.onnx.data").unlink()
    with pytest.raises(ValueError, match="split.onnx.data, the file of its weights"):
        onnx.session(tmp_path / "split.onnx")


def test_quiet_ends_when_it_ends(capsys):
    import logging

    with pytest.raises(KeyError), onnx.quiet():
        print("never seen")
        raise KeyError
    logging.getLogger("someone").warning("seen")
    print("and this")
    assert capsys.readouterr().out == "and this\n"
    assert logging.getLogger("someone").isEnabledFor(logging.WARNING)
