"""Language models that learn from clicks: fine-tuned text encoders and a click classifier over texts."""
