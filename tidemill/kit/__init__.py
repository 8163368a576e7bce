"""Tools of applications: metrics, pictures, sounds, perturbations, calibration, batches."""
