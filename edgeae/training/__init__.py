"""Training and evaluation of models.

`loop.train` runs a training; `trainer.Trainer` has the optimizer step and the epoch; `optimizer` is AdamW; `checkpoint`
and `run_folder` write and read the run folder. `evaluation` and `rate_distortion` score a model. Only `exporting`,
`benchmark` and `cli` import from here.
"""
