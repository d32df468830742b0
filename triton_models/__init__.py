"""What sees: served models and their export, guarded picture decoding, the typed Triton client, the vision pipeline."""
