"""Datasets: from folders, array files, downloads or generated faces to batches for training.

`datasets.open_dataset` is the entry: it lists the images (`sources`, in pairs by `pairs`), loads and splits them (by
content: `fingerprint`), and says in a `report` what is not used; `batches` groups them, varied by `augment` and
damaged. `inference` imports the generated faces from here; `training` and the rooms above it import anything.
"""
