"""What a trained student answers: generation, choices by their likelihood, predictions."""
