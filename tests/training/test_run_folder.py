"""Reading the run folder's configuration."""

from pathlib import Path

import pytest

from edgeae.errors import TrainingError
from edgeae.training.run_folder import read_run


@pytest.mark.parametrize(
    "text, message",
    [
        (None, "holds no run to resume"),
        ("", "damaged; start a new run"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"model": {}, "train": {}}', "'arch' is missing"),
        ('{"model": {"arch": "conv"}, "train": {"data": "faces", "batch": "many"}}', "'batch' has the wrong type"),
        ('{"model": {"arch": "conv", "size": 10}, "train": {"data": "faces"}}', "size must be"),
        ('{"model": {"arch": "conv"}, "train": {"data": "faces", "speed": 1}}', "unknown configuration key 'speed'"),
        ("[" * 100_000, "damaged"),
        (b"\xff\xfe", "damaged"),
    ],
)
def test_a_bad_config_is_a_training_error(tmp_path: Path, text: str | bytes | None, message: str) -> None:
    if text is not None:
        (tmp_path / "config.json").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(TrainingError, match=message):
        read_run(tmp_path)
