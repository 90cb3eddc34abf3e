"""What contenders in environments of their own share: they want other versions than ours of most libraries.

Each prepares and collates the rows itself and trains by its own command, on a base model in float32. Its adapter is
then loaded here, and its loss measured as everyone's.
"""

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.training.outcome import Data, Outcome, base_model, data_of, held_out_loss


@dataclass(frozen=True)
class Peer:
    """A trainer in an environment of its own.

    Attributes:
        name: as it calls itself.
        contenders: what each is changed in from the trainer's own defaults.
        python: the interpreter of its environment, which is made where there is none.
        lay_out: writes rows into the job's folder.
        arguments: the trainer's own, of the changes, the job's folder and the tokens of the longest row. The base
            model lies in ``base`` of that folder, and the adapter goes to ``adapter``.
        loop: the script that trains with them, beside this module.
        environment: variables that it is started with.
    """

    name: str
    contenders: Mapping[str, Mapping[str, Any]]
    python: Callable[[], Path]
    lay_out: Callable[[list[dict[str, Any]], Path], None]
    arguments: Callable[[Mapping[str, Any], Path, int], dict[str, Any]]
    loop: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, name: str, model_folder: Path, kind: str, count: int, seed: int) -> Outcome:
        """Train and measure.

        Raises:
            SystemExit: it failed; with the end of what it said.
        """
        from peft import PeftModel
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
        data = data_of(tokenizer, kind, count, seed)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            taken = self._train(self.contenders[name], model_folder, data, folder)
            model = PeftModel.from_pretrained(base_model(model_folder), folder / "adapter")
            return Outcome(name=name, tokens=data.tokens, loss=held_out_loss(model, data.held_out), **taken)

    def _train(self, changes: Mapping[str, Any], model_folder: Path, data: Data, folder: Path) -> dict[str, Any]:
        """Lay out the job, run it, and read what it took."""
        _base_in_float32(model_folder, folder / "base")
        self.lay_out(data.chats, folder)
        job, taken = folder / "job.json", folder / "taken.json"
        longest = max(len(record["input_ids"]) for record in data.trained)
        job.write_text(json.dumps({
            "arguments": self.arguments(changes, folder, longest), "rows": data.trained, "taken": str(taken),
        }))
        loop = Path(__file__).with_name(self.loop)
        # -P: the folder of the script holds modules of ours, and none is to hide one of the environment's.
        done = subprocess.run(
            [str(self.python()), "-P", str(loop), str(job)], capture_output=True, text=True, check=False,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "HF_DATASETS_CACHE": str(folder / "cache"),
                 **self.environment},
        )
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        found: dict[str, Any] = json.loads(taken.read_text())
        return found


def _base_in_float32(model_folder: Path, folder: Path) -> None:
    """The same files, with a configuration that says float32: LLaMA-Factory loads weights as it says."""
    folder.mkdir()
    for path in model_folder.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((model_folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"dtype": "float32"}))
