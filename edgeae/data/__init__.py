"""Datasets: from folders, array files, downloads or generated faces to batches for training.

`datasets.open_dataset` is the entry: it lists the images (`sources`), loads and splits them; `batches` groups them,
varied by `augment` and damaged. `inference` imports the generated faces from here; `training` and the rooms above it
import anything.
"""
