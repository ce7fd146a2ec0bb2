"""Visual reinforcement fine-tuning."""
