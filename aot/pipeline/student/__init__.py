"""What commands do with a trained student: export, predictions, calibration, and a cascade replayed."""
