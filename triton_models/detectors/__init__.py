"""The detectors as torch networks: architectures, data, training, evaluation. Served files come out of the export."""
