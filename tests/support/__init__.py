"""What several tests need: models, oracles, pictures and files that are made."""
