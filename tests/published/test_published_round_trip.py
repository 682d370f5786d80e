"""Published key lists of real checkpoints: in, out again under the same names, bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from melp_bench.checkpoint import read_manifest
from melp_bench.plugins import discover
from melp_bench.published.export import export_checkpoint
from melp_bench.published.family import Family
from melp_bench.published.fitting import WEIGHT_NORM, fit, publish
from melp_bench.published.folder import import_checkpoint
from melp_plugins.objectives import masked
from melp_plugins.text import melp_decoder

if "MELP_BENCH_PARITY" not in os.environ:
    pytest.skip("MELP_BENCH_PARITY names no folder of published key lists", allow_module_level=True)
ROOT = Path(os.environ["MELP_BENCH_PARITY"])
ENTRIES = discover().ecg_encoders

Rows = list[tuple[str, list[int], str]]


def rows_of(path: str, name: str | None = None) -> Rows:
    loaded = json.loads((ROOT / path).read_text())
    chosen = loaded if name is None else loaded[name]
    return chosen["state_dict"] if isinstance(chosen, dict) else chosen


def noise(rows: Rows) -> dict[str, Tensor]:
    """Return tensors of the stated shapes, all different."""
    generator = torch.Generator().manual_seed(0)
    made = {}
    for key, shape, dtype in rows:
        kind = getattr(torch, dtype)
        made[key] = (
            torch.randn(shape, generator=generator).to(kind) if kind.is_floating_point else torch.ones(shape, dtype=kind)
        )
    return made


def assert_equal(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    assert got.keys() == want.keys()
    for key, tensor in want.items():
        assert got[key].dtype == tensor.dtype, key
        assert torch.equal(got[key], tensor), key


CASES: list[tuple[str, str, str | None]] = [
    ("melp", "melp_ecgfm_q13/state_dict.json", None),
    ("melp", "melp_ecgfm_q10/state_dict.json", None),
    ("melp", "melp_ecgfm_keys/state_dicts.json", "base_attnpool"),
    ("wav2vec2-cmsc", "melp_ecgfm_keys/state_dicts.json", "small_linear_head_default"),
    ("ecg-fm", "ecgfm_wav2vec2_cmsc_base/state_dict.json", None),
    ("ecg-fm-classifier", "ecgfm_classifier/state_dict.json", None),
    ("d-beta", "dbeta_ecg/state_dict.json", None),
    ("d-beta", "dbeta_ecg/state_dict_full_model.json", None),
]


@pytest.mark.slow
@pytest.mark.parametrize(("entry", "path", "name"), CASES, ids=[f"{e}-{n or Path(p).parent.name}" for e, p, n in CASES])
def test_every_key_under_the_prefix_comes_back_bit_equal(entry: str, path: str, name: str | None) -> None:
    published, family = noise(rows_of(path, name)), ENTRIES[entry].published
    assert family is not None
    fitted = fit(published, family, ENTRIES[entry].build)
    under = {key: tensor for key, tensor in published.items() if key.startswith(fitted.layout.prefix)}
    assert_equal(publish(fitted.weights, fitted.aside, family, fitted.layout), under)
    used = {family.published(key) for key in fitted.weights}
    assert len(used) + len(fitted.unused) == len(published)
    assert all(reason for reason in fitted.unused.values())


@pytest.mark.parametrize("name", ["base_attnpool", "large_attnpool"])
def test_every_published_size_of_melp_has_our_keys_and_shapes(name: str) -> None:
    rows, family = rows_of("melp_ecgfm_keys/state_dicts.json", name), ENTRIES["melp"].published
    assert family is not None
    with torch.device("meta"):
        module = ENTRIES["melp"].build(**family.options({key: tuple(shape) for key, shape, _ in rows}))
    ours = {family.published(key): list(tensor.shape) for key, tensor in module.state_dict().items()}
    assert ours == {key: shape for key, shape, _ in rows if family.unused_because(key) is None}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "build", "keys"),
    [(melp_decoder.FAMILY, melp_decoder.MELPDecoder, "text_decoder."), (masked.FAMILY, masked.PretrainingHead, "ecg_encoder.")],
    ids=["decoder", "pretraining-head"],
)
def test_other_parts_of_a_whole_melp_checkpoint_come_back_bit_equal(
    family: Family, build: Callable[..., torch.nn.Module], keys: str
) -> None:
    rows = rows_of("melp_full_keys/state_dicts.json", "MELPModel_ecgfm_q13")
    published = noise([row for row in rows if row[0].startswith(keys)])
    fitted = fit(published, family, build)
    under = {key: tensor for key, tensor in published.items() if key.startswith(fitted.layout.prefix)}
    assert_equal(publish(fitted.weights, fitted.aside, family, fitted.layout), under)
    assert len(fitted.weights) + len(fitted.unused) == len(published)


@pytest.mark.slow
def test_a_whole_melp_lightning_checkpoint_gives_its_ecg_encoder(tmp_path: Path) -> None:
    rows = [row for row in rows_of("melp_full_keys/state_dicts.json", "MELPModel_ecgfm_q13") if "word_embeddings" not in row[0]]
    published = noise(
        [row for row in rows if not row[0].startswith(("text_decoder.text_p", "lm_model.cls", "lm_model.bert.enc"))]
    )
    torch.save({"state_dict": published, "epoch": 4, "pytorch-lightning_version": "2.4.0"}, tmp_path / "melp.ckpt")
    import_checkpoint(str(tmp_path / "melp.ckpt"), ENTRIES["melp"], tmp_path / "ours")
    manifest = read_manifest(tmp_path / "ours")
    read_off = {"size": "small", "contrast_queries": 13, "caption_queries": 128}
    assert manifest.recipe.encoder.options.items() >= read_off.items()
    assert manifest.source["container"] == "state_dict"
    lacks = export_checkpoint(tmp_path / "ours", ENTRIES["melp"], tmp_path / "back.safetensors")
    assert len(lacks) == 1
    assert lacks[0].endswith("more: belongs to the text model, its decoder or the losses, not to the ECG encoder")
    assert_equal(load_file(tmp_path / "back.safetensors"), {k: t for k, t in published.items() if k.startswith("ecg_encoder.")})
    unused = json.loads((tmp_path / "ours" / "published.json").read_text())["unused"]
    assert {"logit_scale", "lm_model.bert.embeddings.LayerNorm.weight", "ecg_encoder.bn.running_mean"} <= unused.keys()


@pytest.mark.slow
def test_st_mems_pretraining_file_goes_back_with_its_decoder(tmp_path: Path) -> None:
    published = noise(rows_of("stmem_pretrain_base/state_dict.json"))
    torch.save({"model": published, "args": None}, tmp_path / "st_mem.pth")
    import_checkpoint(str(tmp_path / "st_mem.pth"), ENTRIES["st-mem-base"], tmp_path / "ours")
    assert export_checkpoint(tmp_path / "ours", ENTRIES["st-mem-base"], tmp_path / "back.safetensors") == []
    assert_equal(load_file(tmp_path / "back.safetensors"), published)


@pytest.mark.slow
def test_half_precision_and_the_old_spelling_of_weight_norm_survive_the_folder(tmp_path: Path) -> None:
    def old(key: str) -> str:
        for spelling, new in WEIGHT_NORM.items():
            key = key.replace(new, spelling)
        return key

    published = {old(k): t.half() for k, t in noise(rows_of("ecgfm_classifier/state_dict.json")).items()}
    assert any(key.endswith("weight_g") for key in published)
    torch.save({"model": published, "args": None, "cfg": {"task": "ecg"}}, tmp_path / "fine.pt")
    made = import_checkpoint(str(tmp_path / "fine.pt"), ENTRIES["ecg-fm-classifier"], tmp_path / "ours")
    export_checkpoint(tmp_path / "ours", ENTRIES["ecg-fm-classifier"], tmp_path / "back.safetensors")
    assert_equal(load_file(tmp_path / "back.safetensors"), published)
    assert {t.dtype for t in made.encoder.module.state_dict().values()} == {torch.float32}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.pop("ln_contrast.weight"),
        lambda t: t.update({"ln_contrast.scale": torch.ones(256)}),
        lambda t: t.update({"ln_contrast.weight": torch.ones(255)}),
    ],
    ids=["missing", "unknown", "misshapen"],
)
def test_one_wrong_key_stops_the_load_and_is_named(change: Callable[[dict[str, Tensor]], object]) -> None:
    published, entry = noise(rows_of("melp_ecgfm_q10/state_dict.json")), ENTRIES["melp"]
    change(published)
    assert entry.published is not None
    with pytest.raises(ValueError, match=r"ln_contrast\.(weight|scale).*nothing was loaded") as caught:
        fit(published, entry.published, entry.build, "a.pt")
    assert "\n" not in str(caught.value)


def test_another_familys_weights_are_refused_before_anything_is_built() -> None:
    published = {key: torch.empty(0) for key, _, _ in rows_of("merl_resnet18/state_dict.json")}

    def never(**options: object) -> torch.nn.Module:
        raise AssertionError("built a module for a file of another family")

    for name in ("melp", "ecg-fm", "ecg-fm-classifier", "d-beta", "wav2vec2-cmsc"):
        family = ENTRIES[name].published
        assert family is not None
        with pytest.raises(ValueError, match=f"no '{name}' weights"):
            fit(published, family, never)


@pytest.mark.parametrize("entry", ["melp", "ecg-fm", "d-beta", "conv-transformer"])
def test_an_import_that_fails_writes_nothing(entry: str, tmp_path: Path) -> None:
    rows = rows_of("merl_resnet18/state_dict.json")
    torch.save({key: torch.zeros(shape) for key, shape, _ in rows}, tmp_path / "merl.pth")
    with pytest.raises(ValueError, match=r"no '.*' weights|no published checkpoints") as caught:
        import_checkpoint(str(tmp_path / "merl.pth"), ENTRIES[entry], tmp_path / "ours")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


@pytest.mark.slow
def test_a_damaged_folder_is_not_exported(tmp_path: Path) -> None:
    torch.save({"model": noise(rows_of("dbeta_ecg/state_dict.json"))}, tmp_path / "sample.pt")
    import_checkpoint(str(tmp_path / "sample.pt"), ENTRIES["d-beta"], tmp_path / "ours")
    with pytest.raises(ValueError, match="holds 'd-beta'"):
        export_checkpoint(tmp_path / "ours", ENTRIES["melp"], tmp_path / "back.safetensors")
    weights = tmp_path / "ours" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(bytes(content))
    with pytest.raises(ValueError, match="is damaged"):
        export_checkpoint(tmp_path / "ours", ENTRIES["d-beta"], tmp_path / "back.safetensors")
    assert not (tmp_path / "back.safetensors").exists()
